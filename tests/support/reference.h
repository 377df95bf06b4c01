// Every fused kernel again, in plain maths: double, one value at a time, loops in the order of the
// formula. Slow and obvious on purpose: what the fast kernels are compared with. Nothing is saved
// for a backward pass; derivatives are checked by finite differences.
//
// Sizes: B batch, T queries, S keys, H heads, K key/value heads, D channels of a head, C channels,
// V vocabulary, N rows. Tensors are row-major vectors; a suffix names their dimensions: q_BTHD.
#pragma once

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>
#include <vector>

#include "core/kernels/activation.h"
#include "core/kernels/rope.h"
#include "optim/optim_config.h"

namespace ballast::reference {

using Values = std::vector<double>;

inline size_t at(int64_t i) {
  assert(i >= 0);
  return static_cast<size_t>(i);
}
inline int64_t length(const Values& x) {
  return static_cast<int64_t>(x.size());
}

// ---------------------------------------------------------------------------------- normalisation

/// The gain of a norm: weight, or 1 + weight; an empty weight is a norm without gain.
inline double gain(const Values& weight, int64_t c, bool unit_offset) {
  if (weight.empty()) return 1.0;
  return unit_offset ? 1.0 + weight[at(c)] : weight[at(c)];
}

/// y = (x - mean) / sqrt(var + eps) * gain + bias over rows of C, with the biased variance.
/// An empty weight or bias is left out.
inline Values layer_norm(const Values& x_NC, const Values& weight_C, const Values& bias_C,
                         int64_t C, double eps, bool unit_offset = false) {
  Values y_NC(x_NC.size());
  for (int64_t row = 0; row < length(x_NC) / C; ++row) {
    double mean = 0.0;
    for (int64_t c = 0; c < C; ++c) mean += x_NC[at(row * C + c)];
    mean /= static_cast<double>(C);

    double variance = 0.0;
    for (int64_t c = 0; c < C; ++c) {
      const double centred = x_NC[at(row * C + c)] - mean;
      variance += centred * centred;
    }
    variance /= static_cast<double>(C);

    for (int64_t c = 0; c < C; ++c) {
      const double normalised = (x_NC[at(row * C + c)] - mean) / std::sqrt(variance + eps);
      const double shift = bias_C.empty() ? 0.0 : bias_C[at(c)];
      y_NC[at(row * C + c)] = normalised * gain(weight_C, c, unit_offset) + shift;
    }
  }
  return y_NC;
}

/// y = x / sqrt(mean(x^2) + eps) * gain over rows of C.
inline Values rms_norm(const Values& x_NC, const Values& weight_C, int64_t C, double eps,
                       bool unit_offset = false) {
  Values y_NC(x_NC.size());
  for (int64_t row = 0; row < length(x_NC) / C; ++row) {
    double mean_square = 0.0;
    for (int64_t c = 0; c < C; ++c) mean_square += x_NC[at(row * C + c)] * x_NC[at(row * C + c)];
    mean_square /= static_cast<double>(C);

    for (int64_t c = 0; c < C; ++c) {
      y_NC[at(row * C + c)] =
          x_NC[at(row * C + c)] / std::sqrt(mean_square + eps) * gain(weight_C, c, unit_offset);
    }
  }
  return y_NC;
}

/// y = g x / max(norm2(x), eps) over rows of C.
inline Values scale_norm(const Values& x_NC, double g, int64_t C, double eps) {
  Values y_NC(x_NC.size());
  for (int64_t row = 0; row < length(x_NC) / C; ++row) {
    double square_sum = 0.0;
    for (int64_t c = 0; c < C; ++c) square_sum += x_NC[at(row * C + c)] * x_NC[at(row * C + c)];
    for (int64_t c = 0; c < C; ++c) {
      y_NC[at(row * C + c)] = g * x_NC[at(row * C + c)] / std::max(std::sqrt(square_sum), eps);
    }
  }
  return y_NC;
}

/// y = weight tanh(alpha x) + bias over rows of C; an empty weight or bias is left out.
inline Values dyt(const Values& x_NC, double alpha, const Values& weight_C, const Values& bias_C,
                  int64_t C) {
  Values y_NC;
  for (int64_t i = 0; i < length(x_NC); ++i) {
    const double shift = bias_C.empty() ? 0.0 : bias_C[at(i % C)];
    y_NC.push_back(gain(weight_C, i % C, false) * std::tanh(alpha * x_NC[at(i)]) + shift);
  }
  return y_NC;
}

/// The normalised copy of `heads` groups of D columns, from column `begin` of rows of W on; the
/// others pass. The gain and the shift of channel d of head h are entry h D + d, or d where the
/// heads share them; empty ones are left out.
inline Values head_norm(const Values& x_NW, int64_t W, int64_t begin, int64_t heads, int64_t D,
                        bool is_layer_norm, const Values& weight, const Values& bias, double eps,
                        bool unit_offset = false) {
  Values y_NW = x_NW;
  for (int64_t row = 0; row < length(x_NW) / W; ++row) {
    for (int64_t h = 0; h < heads; ++h) {
      const auto first = x_NW.begin() + row * W + begin + h * D;
      const auto of_head = [&](const Values& p) {
        if (length(p) <= D) return p;
        return Values(p.begin() + h * D, p.begin() + (h + 1) * D);
      };
      const Values x(first, first + D);
      const Values y = is_layer_norm
                           ? layer_norm(x, of_head(weight), of_head(bias), D, eps, unit_offset)
                           : rms_norm(x, of_head(weight), D, eps, unit_offset);
      for (int64_t d = 0; d < D; ++d) y_NW[at(row * W + begin + h * D + d)] = y[at(d)];
    }
  }
  return y_NW;
}

/// cap tanh(factor x / cap); cap 0 is none.
inline Values softcap(const Values& x, double cap, double factor = 1.0) {
  Values y;
  for (const double value : x) {
    y.push_back(cap == 0.0 ? factor * value : cap * std::tanh(factor * value / cap));
  }
  return y;
}

/// T5's bucket of the distance d of a key behind its query, by searching the boundary: the first of
/// the logarithmic buckets whose share of the way to max_distance, on a logarithmic scale, d lacks.
inline int64_t t5_bucket(int64_t d, int64_t n_buckets, int64_t max_distance) {
  const int64_t max_exact = n_buckets / 2;
  if (d < max_exact) return d;
  const int64_t n_log = n_buckets - max_exact;
  const double ratio = static_cast<double>(max_distance) / static_cast<double>(max_exact);
  int64_t i = 0;
  while (i + 1 < n_log &&
         static_cast<double>(d) * (1.0 + 1e-12) >=
             static_cast<double>(max_exact) *
                 std::pow(ratio, static_cast<double>(i + 1) / static_cast<double>(n_log))) {
    ++i;
  }
  return max_exact + i;
}

// ----------------------------------------------------------------------------------- feed-forward

inline double activation(ActivationKind kind, double x) {
  switch (kind) {
    case ActivationKind::relu:
      return x > 0.0 ? x : 0.0;
    case ActivationKind::relu2:
      return x > 0.0 ? x * x : 0.0;
    case ActivationKind::gelu:
      // erfc keeps the digits that 1 + erf loses at negative x.
      return 0.5 * x * std::erfc(-x / std::numbers::sqrt2);
    case ActivationKind::gelu_tanh: {
      const double inner = std::sqrt(2.0 / std::numbers::pi) * (x + 0.044715 * x * x * x);
      return 0.5 * x * (1.0 + std::tanh(inner));
    }
    case ActivationKind::silu:
      return x / (1.0 + std::exp(-x));
    case ActivationKind::elu:
      return x > 0.0 ? x : std::expm1(x);
    case ActivationKind::selu:
      // alpha and lambda of Klambauer et al. 2017, appendix A.1
      return 1.0507009873554805 * (x > 0.0 ? x : 1.6732632423543772 * std::expm1(x));
    case ActivationKind::softplus:
      return x > 30.0 ? x + std::exp(-x) : std::log1p(std::exp(x));
    case ActivationKind::sigmoid:
      return 1.0 / (1.0 + std::exp(-x));
    case ActivationKind::tanh:
      return std::tanh(x);
    case ActivationKind::mish:
      return x * std::tanh(activation(ActivationKind::softplus, x));
    case ActivationKind::softsign:
      return x / (1.0 + std::fabs(x));
    case ActivationKind::identity:
      return x;
  }
  return std::numeric_limits<double>::quiet_NaN();
}

inline Values activation(ActivationKind kind, const Values& x) {
  Values y(x.size());
  for (size_t i = 0; i < x.size(); ++i) y[i] = activation(kind, x[i]);
  return y;
}

/// act(gate) * up
inline Values glu(ActivationKind kind, const Values& gate, const Values& up) {
  Values y(gate.size());
  for (size_t i = 0; i < gate.size(); ++i) y[i] = activation(kind, gate[i]) * up[i];
  return y;
}

/// The same with gate and up side by side: each row of x is (gate, up), C channels of each.
inline Values glu_joined(ActivationKind kind, const Values& x_N2C, int64_t C) {
  Values y_NC(x_N2C.size() / 2);
  for (int64_t row = 0; row < length(y_NC) / C; ++row) {
    for (int64_t c = 0; c < C; ++c) {
      const double gate = x_N2C[at(row * 2 * C + c)];
      const double up = x_N2C[at(row * 2 * C + C + c)];
      y_NC[at(row * C + c)] = activation(kind, gate) * up;
    }
  }
  return y_NC;
}

// -------------------------------------------------------------------------- linear and embedding

/// y = x weight^T + bias; weight is (n_out, n_in), an empty bias is left out.
inline Values linear(const Values& x, const Values& weight, const Values& bias, int64_t n_in,
                     int64_t n_out) {
  const int64_t n_rows = length(x) / n_in;
  Values y(at(n_rows * n_out));
  for (int64_t row = 0; row < n_rows; ++row) {
    for (int64_t o = 0; o < n_out; ++o) {
      double sum = bias.empty() ? 0.0 : bias[at(o)];
      for (int64_t i = 0; i < n_in; ++i) sum += x[at(row * n_in + i)] * weight[at(o * n_in + i)];
      y[at(row * n_out + o)] = sum;
    }
  }
  return y;
}

/// y[row] = weight[token[row]]
inline Values embedding(const std::vector<int32_t>& tokens_N, const Values& weight_VC, int64_t C) {
  Values y_NC;
  for (const int32_t token : tokens_N) {
    for (int64_t c = 0; c < C; ++c) y_NC.push_back(weight_VC[at(token * C + c)]);
  }
  return y_NC;
}

// ------------------------------------------------------------------------------------------- rope

/// Rotates pair i of the first d_rot channels of every head at position offset + t by the angle
/// (offset + t) * theta^(-2i/d_rot); the other channels pass.
inline Values rope(const Values& x_BTHD, int64_t B, int64_t T, int64_t H, int64_t D, int64_t d_rot,
                   double theta, RopeLayout layout, int64_t offset = 0) {
  Values y_BTHD = x_BTHD;
  for (int64_t b = 0; b < B; ++b) {
    for (int64_t t = 0; t < T; ++t) {
      for (int64_t h = 0; h < H; ++h) {
        const int64_t head = ((b * T + t) * H + h) * D;
        for (int64_t i = 0; i < d_rot / 2; ++i) {
          const double angle =
              static_cast<double>(offset + t) *
              std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(d_rot));
          const bool is_half = layout == RopeLayout::half;
          const int64_t first = head + (is_half ? i : 2 * i);
          const int64_t second = head + (is_half ? i + d_rot / 2 : 2 * i + 1);
          const double x1 = x_BTHD[at(first)];
          const double x2 = x_BTHD[at(second)];
          y_BTHD[at(first)] = x1 * std::cos(angle) - x2 * std::sin(angle);
          y_BTHD[at(second)] = x1 * std::sin(angle) + x2 * std::cos(angle);
        }
      }
    }
  }
  return y_BTHD;
}

// -------------------------------------------------------------------------------------- attention

struct AttentionSizes {
  int64_t B = 1;
  int64_t T = 1;  ///< queries
  int64_t H = 1;
  int64_t K = 1;       ///< key/value heads
  int64_t D = 1;       ///< channels of a head
  int64_t offset = 0;  ///< position of the first query: keys before it come from a cache
  int64_t S() const { return offset + T; }
};

/// What changes the plain logits; all off by default.
struct AttentionModes {
  double softcap = 0.0;
  Values bias_HN;  ///< N values of each head, by distance; empty: none
  bool bias_before_cap = false;
  int64_t window = 0;
  bool is_chunk = false;  ///< the window is a chunk of positions, not a distance
  bool has_sink = false;
  Values sink_H;  ///< empty: 0

  bool sees(int64_t query, int64_t key) const {
    if (key > query) return false;
    if (window == 0) return true;
    return is_chunk ? query / window == key / window : query - key < window;
  }
};

/// scale * q·k is given; cap and bias, in their order.
inline double attention_logit(const AttentionModes& modes, double logit, double bias) {
  if (modes.bias_before_cap) logit += bias;
  if (modes.softcap > 0.0) logit = modes.softcap * std::tanh(logit / modes.softcap);
  return modes.bias_before_cap ? logit : logit + bias;
}

struct AttentionResult {
  Values o_BTHD;
  Values lse_BHT;        ///< log of the softmax's denominator
  Values max_logit_BHT;  ///< largest logit of each query, the sink apart
};

/// o_i = sum_j softmax_j(logit_ij) v_j over the keys that query offset + i sees; logit_ij is
/// scale * q_i·k_j changed by the modes.
/// Query head h reads key/value head floor(h K / H). k, v: (B, S, K, D).
inline AttentionResult causal_attention(const Values& q_BTHD, const Values& k_BSKD,
                                        const Values& v_BSKD, const AttentionSizes& sizes,
                                        double scale, const AttentionModes& modes = {}) {
  const auto [B, T, H, K, D, offset] = sizes;
  const int64_t S = sizes.S();
  AttentionResult result;
  result.o_BTHD.assign(at(B * T * H * D), 0.0);
  result.lse_BHT.assign(at(B * H * T), 0.0);
  result.max_logit_BHT.assign(at(B * H * T), 0.0);

  for (int64_t b = 0; b < B; ++b) {
    for (int64_t h = 0; h < H; ++h) {
      const int64_t kv_head = h * K / H;
      for (int64_t i = 0; i < T; ++i) {
        const int64_t q_begin = ((b * T + i) * H + h) * D;
        const int64_t n_keys = offset + i + 1;

        Values logits(at(n_keys), -std::numeric_limits<double>::infinity());
        for (int64_t j = 0; j < n_keys; ++j) {
          if (!modes.sees(offset + i, j)) continue;
          const int64_t k_begin = ((b * S + j) * K + kv_head) * D;
          double dot = 0.0;
          for (int64_t d = 0; d < D; ++d) dot += q_BTHD[at(q_begin + d)] * k_BSKD[at(k_begin + d)];
          const int64_t row = length(modes.bias_HN) / H * h;
          const double bias = modes.bias_HN.empty() ? 0.0 : modes.bias_HN[at(row + offset + i - j)];
          logits[at(j)] = attention_logit(modes, scale * dot, bias);
        }

        double max_logit = *std::max_element(logits.begin(), logits.end());
        result.max_logit_BHT[at((b * H + h) * T + i)] = max_logit;
        double denominator = 0.0;
        if (modes.has_sink) {
          const double sink = modes.sink_H.empty() ? 0.0 : modes.sink_H[at(h)];
          max_logit = std::max(max_logit, sink);
          denominator = std::exp(sink - max_logit);
        }
        for (const double logit : logits) denominator += std::exp(logit - max_logit);
        result.lse_BHT[at((b * H + h) * T + i)] = max_logit + std::log(denominator);

        for (int64_t j = 0; j < n_keys; ++j) {
          const double probability = std::exp(logits[at(j)] - max_logit) / denominator;
          const int64_t v_begin = ((b * S + j) * K + kv_head) * D;
          for (int64_t d = 0; d < D; ++d) {
            result.o_BTHD[at(q_begin + d)] += probability * v_BSKD[at(v_begin + d)];
          }
        }
      }
    }
  }
  return result;
}

// ------------------------------------------------------------------------------------------- loss

struct Loss {
  double ce = 0.0;  ///< mean of lse - logit of the target
  double z = 0.0;   ///< z_loss * mean(lse^2)
  double total() const { return ce + z; }
  Values lse_N;
};

/// Both means are over the rows whose target is not -1; without any, the loss is 0.
inline Loss cross_entropy(const Values& logits_NV, const std::vector<int32_t>& targets_N, int64_t V,
                          double z_loss) {
  Loss loss;
  double n_counted = 0.0;
  for (int64_t row = 0; row < static_cast<int64_t>(targets_N.size()); ++row) {
    double max_logit = -std::numeric_limits<double>::infinity();
    for (int64_t v = 0; v < V; ++v) max_logit = std::max(max_logit, logits_NV[at(row * V + v)]);
    double denominator = 0.0;
    for (int64_t v = 0; v < V; ++v) denominator += std::exp(logits_NV[at(row * V + v)] - max_logit);
    const double lse = max_logit + std::log(denominator);
    loss.lse_N.push_back(lse);

    const int32_t target = targets_N[at(row)];
    if (target == -1) continue;
    loss.ce += lse - logits_NV[at(row * V + target)];
    loss.z += z_loss * lse * lse;
    n_counted += 1.0;
  }
  if (n_counted > 0.0) {
    loss.ce /= n_counted;
    loss.z /= n_counted;
  }
  return loss;
}

// -------------------------------------------------------------------------------------- optimiser

/// lr_s, for the update s = 0, 1, … of a run of `steps`.
inline double schedule_lr(const OptimConfig& config, int64_t steps, int64_t s) {
  const double lr = config.lr;
  const double min_lr = config.schedule.min_lr;
  const int64_t W = config.schedule.warmup_steps;
  if (s < W) return lr * static_cast<double>(s + 1) / static_cast<double>(W);

  const bool is_wsd = config.schedule.kind == ScheduleKind::wsd;
  const int64_t default_decay = is_wsd ? steps / 5 : steps - W;
  const int64_t decay_steps =
      std::max<int64_t>(1, config.schedule.decay_steps.value_or(default_decay));
  const int64_t decay_begin = is_wsd ? std::max(W, steps - decay_steps) : W;
  const double u =
      std::clamp(static_cast<double>(s - decay_begin) / static_cast<double>(decay_steps), 0.0, 1.0);

  switch (config.schedule.kind) {
    case ScheduleKind::constant:
      return lr;
    case ScheduleKind::linear:
    case ScheduleKind::wsd:
      return lr + (min_lr - lr) * u;
    case ScheduleKind::cosine:
      return min_lr + (lr - min_lr) * 0.5 * (1.0 + std::cos(std::numbers::pi * u));
    case ScheduleKind::inv_sqrt:
      return lr *
             std::sqrt(static_cast<double>(std::max<int64_t>(W, 1)) / static_cast<double>(s + 1));
  }
  return std::numeric_limits<double>::quiet_NaN();
}

/// One parameter's weights and moments, all of one size.
struct AdamWState {
  Values w, m, v;
  explicit AdamWState(Values weights) : w(std::move(weights)), m(w.size()), v(w.size()) {}
};

/// Update number s = 0, 1, … with the rate lr_s. `decays`: whether weight decay reaches it.
/// coupled:      w -= lr_s * (m̂ / (sqrt(v̂) + eps) + wd w)
/// independent:  w -= lr_s * m̂ / (sqrt(v̂) + eps) + (lr_s / lr) * wd w
inline void adamw_step(AdamWState& state, const Values& gradient, const OptimConfig& config,
                       double lr_s, int64_t s, bool decays) {
  const auto [beta1, beta2] = config.betas;
  const auto n_updates = static_cast<double>(s + 1);
  for (size_t i = 0; i < gradient.size(); ++i) {
    const double g = gradient[i];
    state.m[i] = beta1 * state.m[i] + (1.0 - beta1) * g;
    state.v[i] = beta2 * state.v[i] + (1.0 - beta2) * g * g;
    const double m_hat = state.m[i] / (1.0 - std::pow(beta1, n_updates));
    const double v_hat = state.v[i] / (1.0 - std::pow(beta2, n_updates));

    const double decay_rate = config.decay == DecayForm::coupled ? lr_s : lr_s / config.lr;
    const double decay = decays ? decay_rate * config.weight_decay * state.w[i] : 0.0;
    state.w[i] -= lr_s * m_hat / (std::sqrt(v_hat) + config.eps) + decay;
  }
}

/// The factor that brings gradients of that norm down to max_norm; 1 when they are below it.
/// The 1e-6 is that of torch.nn.utils.clip_grad_norm_.
inline double clip_scale(double grad_norm, double max_norm) {
  return std::min(1.0, max_norm / (grad_norm + 1e-6));
}

}  // namespace ballast::reference
