// Causal attention with an online softmax over tiles: no (T, T) matrix is ever in memory.
// Dao 2023, arXiv 2307.08691; the backward pass recomputes the probabilities tile by tile. All that
// models do to logits happens inside the tile, and tiles that no query sees are skipped.
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
  int64_t window = 0;   ///< keys that a query sees at most, its own included; 0: all
  LocalKind local = LocalKind::window;
  int64_t ring = 0;  ///< forward only: key j lies in row j % ring of k and v; 0: in row j

  /// The first key that the query at `position` sees.
  int64_t first_key(int64_t position) const {
    if (window == 0) return 0;
    if (local == LocalKind::chunk) return position / window * window;
    return position < window ? 0 : position - window + 1;
  }
};

/// What else becomes of the scaled products, in this order. T5: Raffel et al. 2020; ALiBi: Press et
/// al. 2022; softcap: Gemma 2, arXiv 2408.00118; sink: Xiao et al. 2024, gpt-oss.
template <class T>
struct AttentionLogits {
  double softcap = 0.0;              ///< logit = softcap * tanh(logit / softcap); 0: off
  const T* distance_bias = nullptr;  ///< (H, n_distances): [h][i - j] is added to the logit
  int64_t n_distances = 0;           ///< more than the largest distance at which a key is seen
  bool bias_before_cap = false;      ///< the bias is added before the cap
  bool has_sink = false;             ///< one more term in the denominator: exp(sink), or exp(0)
  const T* sink = nullptr;           ///< (H)
};

/// Where the gradients of AttentionLogits' tables go; each may be null. Written, or added to.
template <class T>
struct AttentionTableGradients {
  T* distance_bias = nullptr;  ///< (H, n_distances)
  T* sink = nullptr;           ///< (H)
  bool adds_to_bias = false, adds_to_sink = false;
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

/// out_i = sum_j softmax_j(logit_ij) v_j, where logit = scale * q_i . k_j unless `logits` says
/// more.   Saves lse (B, H, Tq): log of the denominators.
/// max_logit (B, H), if not null, receives the largest logit, the sink apart; NaN if any logit seen
/// was NaN. Throws std::invalid_argument if a query sees no key, or sees keys beyond Tk, if the
/// ring or the bias is too short for the keys seen.
template <class T>
void attention_forward(const AttentionShape& shape, const T* q, const T* k, const T* v, T* out,
                       T* lse, const AttentionLogits<T>& logits = {},
                       const AttentionDropout& dropout = {}, T* max_logit = nullptr);

/// Writes (never adds to) dq, dk, dv, which have the strides of q, k, v.
///   p = exp(logit - lse)   dv_j = sum_i p_ij do_i   dp_ij = do_i . v_j   D_i = do_i . o_i
///   dlogit = p (dp - D)    ds = dlogit (1 - (capped / cap)^2)
///   dq_i = scale * sum_j ds_ij k_j   dk_j = scale * sum_i ds_ij q_i
///   dbias[i - j] = sum of dlogit, or of ds before the cap   dsink = -sum_i exp(sink - lse_i) D_i
template <class T>
void attention_backward(const AttentionShape& shape, const T* q, const T* k, const T* v,
                        const T* out, const T* lse, const T* dout, T* dq, T* dk, T* dv,
                        const AttentionLogits<T>& logits = {}, const AttentionDropout& dropout = {},
                        const AttentionTableGradients<T>& tables = {});

}  // namespace ballast
