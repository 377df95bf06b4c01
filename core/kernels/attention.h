// Causal attention with an online softmax over tiles: no (T, T) matrix is ever in memory.
// Dao 2023, arXiv 2307.08691; the backward pass recomputes the probabilities tile by tile.
#pragma once

#include <cstdint>

namespace ballast {

/// Which keys a local layer's query i sees, of those up to its own.
enum class LocalKind {
  window,  ///< the last `window` of them: i - j < window
  chunk,   ///< those of its own block: floor(i / window) = floor(j / window)
};

/// Sizes and strides. Row t of batch b of q, out and their gradients is row b * Tq + t, that of k,
/// v and their gradients is row b * kv_rows + t; head h begins at column h * hd. The four may be
/// column ranges of one matrix.
struct AttentionShape {
  int64_t B = 1;   ///< sequences
  int64_t Tq = 1;  ///< queries of each
  int64_t Tk = 1;  ///< keys of each
  int64_t H = 1;   ///< query heads
  int64_t K = 1;   ///< key/value heads; query head h reads floor(h * K / H)
  int64_t hd = 1;  ///< channels of a head
  double scale = 1.0;
  int64_t q_offset = 0;  ///< position of the first query: query i sees the keys j <= q_offset + i
  int64_t q_stride = 1, k_stride = 1, v_stride = 1, o_stride = 1;  ///< elements between rows
  int64_t kv_rows = 0;  ///< rows of k and v between sequences, for a cache with room; 0: Tk
};

/// Dropout of the softmax's probabilities. Which of them are kept is a function of the arguments of
/// attention_keeps() and nothing else.
struct AttentionDropout {
  double rate = 0.0;      ///< in [0, 1); the kept ones are divided by 1 - rate
  uint64_t key = 0;       ///< of Philox: made from seed, step and site
  int64_t first_row = 0;  ///< row of the whole batch that this call's b = 0 is
};

/// Whether dropout keeps the probability of key j for query i (both counted from 0 in this call).
bool attention_keeps(const AttentionDropout& dropout, int64_t H, int64_t b, int64_t h, int64_t i,
                     int64_t j);

/// out_i = sum_j softmax_j(scale * q_i . k_j) v_j.   Saves lse (B, H, Tq): log of the denominators.
/// max_logit (B, H), if not null, receives the largest logit; NaN if any logit seen was NaN.
/// Throws std::invalid_argument if a query sees no key, or sees keys beyond Tk.
template <class T>
void attention_forward(const AttentionShape& shape, const T* q, const T* k, const T* v, T* out,
                       T* lse, const AttentionDropout& dropout = {}, T* max_logit = nullptr);

/// Writes (never adds to) dq, dk, dv, which have the strides of q, k, v.
///   p = exp(logit - lse)   dv_j = sum_i p_ij do_i   dp_ij = do_i . v_j   D_i = do_i . o_i
///   ds = p (dp - D)        dq_i = scale * sum_j ds_ij k_j               dk_j = scale * sum_i ds_ij
///   q_i
template <class T>
void attention_backward(const AttentionShape& shape, const T* q, const T* k, const T* v,
                        const T* out, const T* lse, const T* dout, T* dq, T* dk, T* dv,
                        const AttentionDropout& dropout = {});

}  // namespace ballast
