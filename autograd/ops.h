// All operations that can be recorded on a tape. Each checks its shapes, takes its output from the
// step arena, runs its kernel and appends a node; its backward stands beside its forward in
// autograd/ops/<name>.cpp. B batch, T time, C channels, F hidden width, V vocabulary.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "autograd/tape.h"
#include "core/kernels/activation.h"
#include "core/kernels/attention.h"
#include "core/kernels/rope.h"

namespace ballast {

/// Names of all operations: tests see that each has a gradient check.
// clang-format off
inline constexpr std::array<std::string_view, 23> kOpNames = {
    "activation",
    "add",
    "add_dyt",
    "add_layer_norm",
    "add_rms_norm",
    "add_scale_norm",
    "causal_attention",
    "dropout",
    "dyt",
    "embedding",
    "glu",
    "layer_norm",
    "linear",
    "lm_head_loss",
    "qk_norm",
    "rms_norm",
    "rope",
    "scale_norm",
    "scale_queries",
    "scaled",
    "softcap",
    "t5_bias",
    "weighted_sum",
};
// clang-format on

/// A range of the columns of each row. Some operations read one of wider rows: two that share a
/// value each write their own columns of its gradient, and together they must cover all of it.
struct Columns {
  int64_t begin = 0;
  int64_t width = 0;  ///< 0: all from `begin` on
};

/// y = x weight^T + bias.   x: (..., C)   weight: (N, C)   bias: undefined, or one for each of
/// the outputs `bias_columns`   returns (..., N). Saves nothing: backward reads x.
Var linear(Tape& tape, Var x, Var weight, Var bias = {}, Columns bias_columns = {});

/// y = x + branch, of equal shapes. Reuses the branch's memory where nobody else reads it; both
/// inputs share one gradient.
Var add(Tape& tape, Var x, Var branch);

/// y = sum_i coefficients_i x_i, one element: makes a scalar of any value for gradient checks.
/// coefficients: x.size() values that outlive the step.
Var weighted_sum(Tape& tape, Var x, const double* coefficients);

/// Token ids (B, T), row-major; not owned.
struct TokenView {
  const int32_t* ids = nullptr;
  int64_t batch = 0;
  int64_t length = 0;
};

/// y[b,t] = scale * table[tokens[b,t]] + position[offset + t].
/// table: (V, C)   position: (max_seq_len, C) or undefined   returns (B, T, C).
/// Throws std::invalid_argument for a token outside [0, V) or positions beyond the table.
Var embedding(Tape& tape, TokenView tokens, Var table, Var position = {},
              int64_t position_offset = 0, double scale = 1.0);

/// y = (x - mean) / sqrt(var + eps) * gain + bias over the last dimension, biased variance.
/// x: (..., C)   weight, bias: (C) or undefined   returns (..., C).   Saves mean and rstd of each
/// row. unit_offset: gain = 1 + weight. Ba et al. 2016.
Var layer_norm(Tape& tape, Var x, Var weight, Var bias, double eps, bool unit_offset = false);

/// y = x / sqrt(mean(x^2) + eps) * gain over the last dimension; the mean is not removed.
/// x: (..., C)   weight: (C) or undefined   returns (..., C).   Saves rstd of each row.
/// Zhang & Sennrich 2019, eq. 4.
Var rms_norm(Tape& tape, Var x, Var weight, double eps, bool unit_offset = false);

/// y = g x / max(|x|_2, eps) over the last dimension.   x: (..., C)   weight: (1), g   returns
/// (..., C).   Saves the inverse length of each row.   Nguyen & Salazar 2019, section 3.2.
Var scale_norm(Tape& tape, Var x, Var weight, double eps);

/// y = weight tanh(alpha x) + bias, element by element.   x: (..., C)   alpha: (1)   weight, bias:
/// (C) or undefined   returns (..., C).   Saves nothing: backward reads x.   Zhu et al. 2025.
Var dyt(Tape& tape, Var x, Var alpha, Var weight, Var bias);

/// The two ends of a residual step: the new residual stream and its normalised copy.
struct SumAndNorm {
  Var sum, normed;
};

/// sum = x + branch, normed = layer_norm(sum), in one pass over memory each way.
SumAndNorm add_layer_norm(Tape& tape, Var x, Var branch, Var weight, Var bias, double eps,
                          bool unit_offset = false);
/// sum = x + branch, normed = rms_norm(sum), in one pass over memory each way.
SumAndNorm add_rms_norm(Tape& tape, Var x, Var branch, Var weight, double eps,
                        bool unit_offset = false);

/// sum = x + branch, normed = scale_norm(sum), in one pass over memory each way.
SumAndNorm add_scale_norm(Tape& tape, Var x, Var branch, Var weight, double eps);
/// sum = x + branch, normed = dyt(sum), in one pass over memory each way.
SumAndNorm add_dyt(Tape& tape, Var x, Var branch, Var alpha, Var weight, Var bias);

/// y = factor * weight * x.   x: (..., C)   weight: (C) or undefined   returns (..., C). Reuses the
/// memory of x where nobody else reads it and the weight has no gradient.
/// Touvron et al. 2021, arXiv 2103.17239 (LayerScale).
Var scaled(Tape& tape, Var x, double factor, Var weight = {});

/// y = cap tanh(factor x / cap), element by element; cap 0 is none: y = factor x.
/// Saves nothing: backward reads x.   Gemma 2 2024, arXiv 2408.00118, section 2.
Var softcap(Tape& tape, Var x, double cap, double factor = 1.0);

/// y = act(x[..., columns]), element by element.   x: (..., C)   returns (..., columns.width).
/// Saves nothing: backward reads x. Throws std::invalid_argument if the columns leave the rows.
Var activation(Tape& tape, Var x, ActivationKind kind, Columns columns = {});

/// y = act(gate) * up.   gate_up: (..., W) whose `columns` are 2F, gate first   returns (..., F).
/// Shazeer 2020. Saves nothing: backward reads gate_up. Throws std::invalid_argument if the columns
/// leave the rows or are an odd number.
Var glu(Tape& tape, Var gate_up, ActivationKind kind, Columns columns = {});

/// cos and sin of t * theta^(-2i/d_rot): (n_positions, d_rot/2) each, of the tape's dtype.
struct RopeTable {
  Tensor cos, sin;
};

/// Rotates the first d_rot channels of each of the first n_heads heads of every row, in place.
/// x: (B, T, W) with heads of head_dim channels from column 0 on. Backward rotates by the opposite
/// angle. Su et al. 2021.
struct RopeOptions {
  int64_t n_heads = 0;  ///< rotated heads: query and key heads lie side by side
  int64_t head_dim = 0;
  RopeLayout layout = RopeLayout::half;
  int64_t position_offset = 0;  ///< position of the first row of each sequence
};
Var rope(Tape& tape, Var x, const RopeTable& table, const RopeOptions& options);

struct QkNormOptions {
  bool is_centred = false;  ///< LayerNorm; otherwise RMSNorm
  int64_t n_heads = 0;
  int64_t n_kv_heads = 0;
  int64_t head_dim = 0;
  bool full = false;      ///< one norm over all heads of q, and one over those of k
  bool separate = false;  ///< gains of its own for each head
  double eps = 0.0;
  bool unit_offset = false;
  bool v = false;  ///< v is normalised as k is
};
struct GainAndShift {
  Var weight, bias;
};

/// Normalises the heads of q and k (and v), in place.
/// qkv: (B, T, W), first columns q | k | v of H, K and K heads of head_dim; the others pass.
/// Gains: (head_dim), shared by the heads; separate (H, head_dim) and (K, head_dim); full (H *
/// head_dim) and (K * head_dim), and then mean and variance are those of the whole projection.
/// Undefined ones are 1; shifts alike, of LayerNorm only, are 0. Saves the normalised columns and
/// rstd of each group.   Dehghani et al. 2023, arXiv 2302.05442, section 2; OLMo 2 (full), arXiv
/// 2501.00656, section 3.3; Llama 4 (RMSNorm without gains).
Var qk_norm(Tape& tape, Var qkv, const GainAndShift& q, const GainAndShift& k,
            const GainAndShift& v, const QkNormOptions& options);

/// y[b, t, c] = factors[position_offset + t] x[b, t, c] for c < width, in place: a temperature of
/// the queries, which are the first columns.   x: (B, T, W)   factors: outlive the step, one for
/// each position.   Throws std::invalid_argument if there are fewer than position_offset + T.
/// Llama 4's rule for layers without positions.
Var scale_queries(Tape& tape, Var x, std::span<const double> factors, int64_t width,
                  int64_t position_offset);

/// bias[h, d] = table[buckets[d], h]: T5's bias of a key at distance d behind its query.
/// table: (n_buckets, H)   buckets: t5_buckets() of core/kernels/t5_bias.h, outlive the step; the
/// last serves all distances beyond   returns (H, n_positions).   Throws std::invalid_argument for
/// a bucket outside of the table.   Raffel et al. 2020, section 2.1.
Var t5_bias(Tape& tape, Var table, std::span<const int32_t> buckets, int64_t n_positions);

/// What makes a dropout mask: a pure function of these and of the element's place.
struct DropoutKey {
  double rate = 0.0;
  uint64_t seed = 0;
  int64_t step = 0;
  uint64_t site = 0;      ///< names the place in the model
  int64_t first_row = 0;  ///< of this micro-batch in the whole batch, in sequences
};

/// y = x * keep / (1 - rate), keep drawn for each element. rate 0 returns x itself.
/// x: (B, T, C). Srivastava et al. 2014.
Var dropout(Tape& tape, Var x, const DropoutKey& key);

/// Keys and values of the positions that were seen already, of one layer and one sequence. Position
/// p lies in row p % capacity: a local layer needs no more rows than its window.
struct KvCache {
  Tensor k, v;         ///< (capacity, K * head_dim)
  int64_t length = 0;  ///< positions seen
};

struct AttentionOptions {
  int64_t n_heads = 0;
  int64_t n_kv_heads = 0;
  int64_t head_dim = 0;
  double scale = 1.0;
  double softcap = 0.0;          ///< logit = softcap * tanh(logit / softcap); 0: off
  Var distance_bias;             ///< (H, n): [h][i - j] is added to the logit; undefined: none
  bool bias_before_cap = false;  ///< the bias is added before the cap
  int64_t window = 0;            ///< keys that a query sees at most, its own included; 0: all
  LocalKind local = LocalKind::window;
  bool has_sink = false;     ///< one more term in the softmax's denominator: exp(sink), or exp(0)
  Var sink;                  ///< (H), or undefined: 0, not learned
  DropoutKey dropout;        ///< of the probabilities
  KvCache* cache = nullptr;  ///< generation only: keys and values are appended and attended to
};

/// out = softmax(logits, causal) v for each head; logits = scale * q k^T, then what the options
/// add. x: (B, T, W), W >= (H + 2K) * head_dim, columns q | k | v first   returns (B, T, H *
/// head_dim). Query head h reads key-value head floor(h K / H). Saves logsumexp (B, H, T), never a
/// (T, T) matrix. Throws std::invalid_argument where the bias has fewer distances than are seen, or
/// the cache fewer rows than keys. Dao et al. 2022 (tiling), Ainslie et al. 2023 (grouped queries);
/// the logits' options: core/kernels/attention.h.
Var causal_attention(Tape& tape, Var x, const AttentionOptions& options);

/// What the loss op reports, sums over this call's rows in double, in nats.
struct LossStats {
  double ce = 0.0;        ///< sum of cross-entropies / denominator
  double z = 0.0;         ///< z_loss * sum of lse^2 / denominator
  double lse_mean = 0.0;  ///< mean logsumexp over the rows that have a target
  double max_logit = 0.0;
  int64_t n_targets = 0;  ///< rows whose target is not ignored
};

struct LossOptions {
  double z_loss = 0.0;       ///< coefficient of mean(lse^2), PaLM section 5
  int64_t denominator = 0;   ///< targets of the whole batch, over which means are taken
  double logit_scale = 1.0;  ///< logits = softcap(logit_scale * (W h + b))
  double softcap = 0.0;      ///< softcap(z) = cap tanh(z / cap); 0: none
  double* row_ce = nullptr;  ///< optional: cross-entropy of every row
};

struct LmLoss {
  Var total;  ///< ce + z, one element
  const LossStats* stats = nullptr;
};

/// total = (1/denominator) sum_rows [ CE(softmax(logits), target) + z_loss * lse^2 ].
/// h: (B, T, C)   weight: (V, C)   bias: (V) or undefined   targets: B*T ids, -1 is ignored.
/// logits = softcap(logit_scale * (h W^T + b)); lse and all statistics are of these.
/// The logits exist for a chunk of rows at a time, never (B*T, V). When recording, the gradients
/// are computed on the way, so the loss must be differentiated once, with weight 1.
/// Throws std::invalid_argument otherwise, and for a target outside [-1, V).
LmLoss lm_head_loss(Tape& tape, Var h, Var weight, Var bias, const int32_t* targets,
                    const LossOptions& options);

}  // namespace ballast
