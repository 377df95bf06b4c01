// One call of the attention kernels on random values, with its exact result.
#pragma once

#include <cmath>
#include <limits>
#include <ostream>
#include <string>
#include <vector>

#include "core/kernels/attention.h"
#include "tests/support/random_tensor.h"
#include "tests/support/reference.h"
#include "tests/support/threads.h"

namespace ballast::attention_test {

// Columns of a row: q (H heads), a gap, k (K heads), a gap, v (K heads), a gap. What lies in the
// gaps is never to be written.

inline constexpr int64_t kGap = 3;

inline size_t at(int64_t i) {
  return static_cast<size_t>(i);
}

struct Sizes {
  int64_t B, T, H, K, hd;
  int64_t offset = 0;  // queries follow so many keys
};

inline std::ostream& operator<<(std::ostream& out, const Sizes& s) {
  return out << "B " << s.B << " T " << s.T << " H " << s.H << " K " << s.K << " hd " << s.hd
             << " offset " << s.offset;
}

enum class Bias { none, after_cap, before_cap };
enum class Sink { none, zero, learned };

struct Modes {
  double softcap = 0.0;
  Bias bias = Bias::none;
  int64_t window = 0;
  LocalKind local = LocalKind::window;
  Sink sink = Sink::none;
};

inline std::ostream& operator<<(std::ostream& out, const Modes& m) {
  return out << "softcap " << m.softcap << " bias " << static_cast<int>(m.bias) << " window "
             << m.window << (m.local == LocalKind::chunk ? " (chunk)" : "") << " sink "
             << static_cast<int>(m.sink);
}

template <class T>
struct Case {
  Sizes sizes;
  Modes modes;
  AttentionShape shape;
  AttentionDropout dropout;
  std::vector<T> q, kv, dout, bias, sink;                     // inputs
  std::vector<T> out, lse, max_logit, dq, dkv, dbias, dsink;  // results

  explicit Case(Sizes s, Modes m = {}) : sizes(s), modes(m) {
    shape.B = s.B;
    shape.Tq = s.T;
    shape.Tk = s.T + s.offset;
    shape.H = s.H;
    shape.K = s.K;
    shape.hd = s.hd;
    shape.q_offset = s.offset;
    shape.scale = 1.0 / std::sqrt(static_cast<double>(s.hd));
    shape.q_stride = s.H * s.hd + kGap;
    shape.k_stride = shape.v_stride = 2 * (s.K * s.hd + kGap);
    shape.o_stride = s.H * s.hd + 1;
    shape.window = m.window;
    shape.local = m.local;
  }

  Case(Sizes s, uint64_t seed, double spread = 1.0, Modes m = {}) : Case(s, m) {
    RandomValues random(seed);
    q = random.normal_vector<T>(s.B * s.T * shape.q_stride, 0.0, spread);
    kv = random.normal_vector<T>(s.B * shape.Tk * shape.k_stride);
    dout = random.normal_vector<T>(s.B * s.T * shape.o_stride);
    // As short as it may be: distances beyond the window are never looked up.
    const int64_t distances = m.window == 0 ? shape.Tk : std::min(m.window, shape.Tk);
    if (m.bias != Bias::none) bias = random.normal_vector<T>(s.H * distances);
    if (m.sink == Sink::learned) sink = random.normal_vector<T>(s.H);
  }

  AttentionLogits<T> logits() const {
    AttentionLogits<T> l;
    l.softcap = modes.softcap;
    if (!bias.empty()) l.distance_bias = bias.data();
    l.n_distances = static_cast<int64_t>(bias.size()) / sizes.H;
    l.bias_before_cap = modes.bias == Bias::before_cap;
    l.has_sink = modes.sink != Sink::none;
    if (!sink.empty()) l.sink = sink.data();
    return l;
  }

  template <class U>
  Case<U> as() const {
    Case<U> other(sizes, modes);
    other.shape = shape;
    other.dropout = dropout;
    other.q.assign(q.begin(), q.end());
    other.kv.assign(kv.begin(), kv.end());
    other.dout.assign(dout.begin(), dout.end());
    other.bias.assign(bias.begin(), bias.end());
    other.sink.assign(sink.begin(), sink.end());
    return other;
  }

  int64_t v_column() const { return sizes.K * sizes.hd + kGap; }

  void forward() {
    const T nan = std::numeric_limits<T>::quiet_NaN();
    out.assign(dout.size(), nan);
    lse.assign(at(sizes.B * sizes.H * sizes.T), nan);
    max_logit.assign(at(sizes.B * sizes.H), nan);
    attention_forward(shape, q.data(), kv.data(), kv.data() + v_column(), out.data(), lse.data(),
                      logits(), dropout, max_logit.data());
  }

  void backward() {
    const T nan = std::numeric_limits<T>::quiet_NaN();
    dq.assign(q.size(), nan);
    dkv.assign(kv.size(), nan);
    dbias.assign(bias.size(), nan);
    dsink.assign(sink.size(), nan);
    AttentionTableGradients<T> tables;
    if (!bias.empty()) tables.distance_bias = dbias.data();
    if (!sink.empty()) tables.sink = dsink.data();
    attention_backward(shape, q.data(), kv.data(), kv.data() + v_column(), out.data(), lse.data(),
                       dout.data(), dq.data(), dkv.data(), dkv.data() + v_column(), logits(),
                       dropout, tables);
  }

  // Places of channel d of head h (of K for k and v).
  size_t q_at(int64_t b, int64_t i, int64_t h, int64_t d) const {
    return at((b * sizes.T + i) * shape.q_stride + h * sizes.hd + d);
  }
  size_t o_at(int64_t b, int64_t i, int64_t h, int64_t d) const {
    return at((b * sizes.T + i) * shape.o_stride + h * sizes.hd + d);
  }
  size_t k_at(int64_t b, int64_t j, int64_t h, int64_t d) const {
    const int64_t rows = shape.kv_rows == 0 ? shape.Tk : shape.kv_rows;
    return at((b * rows + j) * shape.k_stride + h * sizes.hd + d);
  }
  size_t v_at(int64_t b, int64_t j, int64_t h, int64_t d) const {
    return k_at(b, j, h, d) + at(v_column());
  }

  reference::AttentionResult exact() const {
    const Sizes& s = sizes;
    reference::Values q_BTHD, k_BSKD, v_BSKD;
    for (int64_t b = 0; b < s.B; ++b) {
      for (int64_t i = 0; i < s.T; ++i) {
        for (int64_t x = 0; x < s.H * s.hd; ++x) {
          q_BTHD.push_back(static_cast<double>(q[q_at(b, i, 0, x)]));
        }
      }
      for (int64_t j = 0; j < s.T + s.offset; ++j) {
        for (int64_t x = 0; x < s.K * s.hd; ++x) {
          k_BSKD.push_back(static_cast<double>(kv[k_at(b, j, 0, x)]));
          v_BSKD.push_back(static_cast<double>(kv[v_at(b, j, 0, x)]));
        }
      }
    }
    return reference::causal_attention(q_BTHD, k_BSKD, v_BSKD, {s.B, s.T, s.H, s.K, s.hd, s.offset},
                                       shape.scale, reference_modes());
  }

  reference::AttentionModes reference_modes() const {
    return {modes.softcap,
            {bias.begin(), bias.end()},
            modes.bias == Bias::before_cap,
            modes.window,
            modes.local == LocalKind::chunk,
            modes.sink != Sink::none,
            {sink.begin(), sink.end()}};
  }
};

inline double largest(const std::vector<double>& x) {
  double most = 0.0;
  for (const double value : x) most = std::max(most, std::fabs(value));
  return most;
}

// First-order bounds of what rounding to u = eps/2 can do, from the values of the case.
//   logit: a chain of hd products of q (itself rounded once when scaled) and k, u (hd + 2) |q|.|k|,
//          then its difference to the maximum and to lse: 3 u |logit|; the cap does not enlarge
//          an error, tanh and its two factors add 6 u cap; a bias adds 3 u (|logit| + |bias|)
//   probability, relative: twice that (numerator, denominator), exp 4 u, the sum of n terms n u,
//          one rescaling (2 u and an exp) for each of n / 64 tiles, weights of v n u
struct Bound {
  double logit = 0.0;        // absolute error
  double probability = 0.0;  // relative error
};

template <class T>
Bound bound_of(const Case<T>& c) {
  const double u = static_cast<double>(std::numeric_limits<T>::epsilon()) / 2.0;
  const Sizes& s = c.sizes;
  double most = 0.0;
  for (int64_t b = 0; b < s.B; ++b) {
    for (int64_t h = 0; h < s.H; ++h) {
      for (int64_t i = 0; i < s.T; ++i) {
        for (int64_t j = 0; j <= s.offset + i; ++j) {
          double size = 0.0;
          for (int64_t d = 0; d < s.hd; ++d) {
            size += std::fabs(static_cast<double>(c.q[c.q_at(b, i, h, d)]) *
                              static_cast<double>(c.kv[c.k_at(b, j, h * s.K / s.H, d)]));
          }
          most = std::max(most, c.shape.scale * size);
        }
      }
    }
  }
  const auto n = static_cast<double>(s.T + s.offset);
  double biggest_bias = 0.0;
  for (const T value : c.bias) {
    biggest_bias = std::max(biggest_bias, std::fabs(static_cast<double>(value)));
  }
  double logit = u * static_cast<double>(s.hd + 2 + 3) * most + 6.0 * u * c.modes.softcap;
  if (!c.bias.empty()) logit += 3.0 * u * (most + biggest_bias);
  return {logit, 2.0 * logit + u * (2.0 * n + 8.0 * n / 64.0 + 16.0)};
}

template <class T>
double largest_of(const std::vector<T>& x) {
  return largest(std::vector<double>(x.begin(), x.end()));
}

// out and lse against the plain formula; the worst error as a share of its bound.
template <class T>
double forward_error(const Case<T>& c) {
  const Sizes& s = c.sizes;
  const reference::AttentionResult want = c.exact();
  const Bound bound = bound_of(c);
  const double v_size = largest_of(c.kv);
  double worst = 0.0;
  const auto compare = [&worst](double value, double wanted, double allowed) {
    const double share = std::fabs(value - wanted) / allowed;
    worst = share <= worst ? worst : share;  // a NaN stays
  };
  for (int64_t b = 0; b < s.B; ++b) {
    for (int64_t h = 0; h < s.H; ++h) {
      for (int64_t i = 0; i < s.T; ++i) {
        const double lse = want.lse_BHT[at((b * s.H + h) * s.T + i)];
        compare(static_cast<double>(c.lse[at((b * s.H + h) * s.T + i)]), lse,
                bound.probability + 1e-7 * std::fabs(lse) * (sizeof(T) == 4 ? 1.0 : 1e-8));
        for (int64_t d = 0; d < s.hd; ++d) {
          compare(static_cast<double>(c.out[c.o_at(b, i, h, d)]),
                  want.o_BTHD[at(((b * s.T + i) * s.H + h) * s.hd + d)],
                  v_size * bound.probability);
        }
      }
    }
  }
  return worst;
}

}  // namespace ballast::attention_test
