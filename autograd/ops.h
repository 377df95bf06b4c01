// All operations that can be recorded on a tape. Each checks its shapes, takes its output from the
// step arena, runs its kernel and appends a node; its backward stands beside its forward in
// autograd/ops/<name>.cpp. B batch, T time, C channels, F hidden width, V vocabulary.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "autograd/tape.h"
#include "core/kernels/activation.h"
#include "core/kernels/attention.h"
#include "core/kernels/rope.h"

namespace ballast {

/// Names of all operations: tests see that each has a gradient check.
inline constexpr std::array<std::string_view, 14> kOpNames = {
    "activation", "add",         "add_layer_norm", "add_rms_norm", "causal_attention", "dropout",
    "embedding",  "glu",         "layer_norm",     "linear",       "lm_head_loss",     "rms_norm",
    "rope",       "weighted_sum"};

/// A range of the columns of each row. Some operations read one of wider rows: two that share a
/// value each write their own columns of its gradient, and together they must cover all of it.
struct Columns {
  int64_t begin = 0;
  int64_t width = 0;  ///< 0: all from `begin` on
};

/// y = x weight^T + bias.   x: (..., C)   weight: (N, C)   bias: (M) or undefined, M <= N, added to
/// the outputs from `bias_begin` on   returns (..., N). Saves nothing: backward reads x.
Var linear(Tape& tape, Var x, Var weight, Var bias = {}, int64_t bias_begin = 0);

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

/// y = act(x), element by element. Saves nothing: backward reads x.
Var activation(Tape& tape, Var x, ActivationKind kind);

/// y = act(gate) * up.   gate_up: (..., 2F), gate in the first F columns   returns (..., F).
/// Shazeer 2020. Saves nothing: backward reads gate_up.
Var glu(Tape& tape, Var gate_up, ActivationKind kind);

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
  double* row_ce = nullptr;  ///< optional: cross-entropy of every row
};

struct LmLoss {
  Var total;  ///< ce + z, one element
  const LossStats* stats = nullptr;
};

/// total = (1/denominator) sum_rows [ CE(softmax(h W^T + b), target) + z_loss * lse^2 ].
/// h: (B, T, C)   weight: (V, C)   bias: (V) or undefined   targets: B*T ids, -1 is ignored.
/// The logits exist for a chunk of rows at a time, never (B*T, V). When recording, the gradients
/// are computed on the way, so the loss must be differentiated once, with weight 1.
/// Throws std::invalid_argument otherwise, and for a target outside [-1, V).
LmLoss lm_head_loss(Tape& tape, Var h, Var weight, Var bias, const int32_t* targets,
                    const LossOptions& options);

}  // namespace ballast
