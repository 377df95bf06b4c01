#include "core/kernels/cross_entropy.h"

#include <cmath>
#include <limits>

#include "core/kernels/activation.h"
#include "core/kernels/rows.h"
#include "core/kernels/vec_math.h"
#include "core/scratch.h"

namespace ballast {

namespace {

// Exponentials added in T before their sum goes on in double: few, so that it keeps its digits.
constexpr int64_t kBlock = 256;

template <class T>
T row_maximum(const T* z, int64_t V) {
  T largest = -std::numeric_limits<T>::infinity();
#pragma omp simd reduction(max : largest)
  for (int64_t v = 0; v < V; ++v) largest = z[v] > largest ? z[v] : largest;
  return largest;
}

// Sum of exp(z - shift); with kKeep, z becomes exp(z - shift).
template <bool kKeep, class T>
double sum_of_exps(T* z, T shift, int64_t V) {
  double total = 0.0;
  for (int64_t begin = 0; begin < V; begin += kBlock) {
    const int64_t end = std::min(V, begin + kBlock);
    T sum{0};
#pragma omp simd reduction(+ : sum)
    for (int64_t v = begin; v < end; ++v) {
      const T e = vec::exp(z[v] - shift);
      sum += e;
      if constexpr (kKeep) z[v] = e;
    }
    total += static_cast<double>(sum);
  }
  return total;
}

template <class T>
void scale_row(T* z, T scale, int64_t V) {
#pragma omp simd
  for (int64_t v = 0; v < V; ++v) z[v] *= scale;
}

// z becomes cap tanh(scale z / cap) and slope its derivative, unless that is null.
template <class T>
void cap_row(T* z, LogitMap<T> map, int64_t V, T* slope) {
  const T inner = map.scale / map.cap;
  if (slope == nullptr) {
#pragma omp simd
    for (int64_t v = 0; v < V; ++v) z[v] = map.cap * value_of<Tanh>(inner * z[v]);
    return;
  }
#pragma omp simd
  for (int64_t v = 0; v < V; ++v) {
    const auto [t, dt] = Tanh::both(inner * z[v]);
    z[v] = map.cap * t;
    slope[v] = map.scale * dt;
  }
}

}  // namespace

template <class T>
void cross_entropy_rows(T* logits, const int32_t* targets, int64_t R, int64_t V, T z_loss,
                        T grad_scale, bool with_gradient, double* row_ce, double* row_lse,
                        T* row_max, LogitMap<T> map) {
  const bool is_capped = map.cap != T{0};
  const bool is_scaled = !is_capped && map.scale != T{1};
  parallel_rows(R, V, [=](int64_t begin, int64_t end) {
    // One row of the cap's slopes, in cache: the logits are overwritten before they are needed.
    T* const slope = is_capped && with_gradient ? scratch<T>(ScratchSlot::kernel, V) : nullptr;
    for (int64_t row = begin; row < end; ++row) {
      T* const z = logits + row * V;
      if (is_capped) cap_row(z, map, V, slope);
      if (is_scaled) scale_row(z, map.scale, V);
      const T max = row_maximum(z, V);
      if (row_max != nullptr) row_max[row] = max;
      if (targets[row] < 0) {
        row_ce[row] = 0.0;
        row_lse[row] = 0.0;
        if (with_gradient) std::fill(z, z + V, T{0});
        continue;
      }

      // Without the target's term, so that the others keep their digits however large it is.
      T& target = z[targets[row]];
      const T target_logit = target;
      target = -std::numeric_limits<T>::infinity();
      const double others =
          with_gradient ? sum_of_exps<true>(z, max, V) : sum_of_exps<false>(z, max, V);
      const double below_max = static_cast<double>(max) - static_cast<double>(target_logit);
      const double target_exp = std::exp(-below_max);
      const double total = others + target_exp;
      const double log_total = below_max == 0.0 ? std::log1p(others) : std::log(total);
      const double lse = static_cast<double>(max) + log_total;
      row_ce[row] = below_max + log_total;
      row_lse[row] = lse;

      if (!with_gradient) {
        target = target_logit;
        continue;
      }
      const double z_slope = 2.0 * static_cast<double>(z_loss) * lse;
      const double per_exp = static_cast<double>(grad_scale) / total;
      const double map_slope = is_scaled ? static_cast<double>(map.scale) : 1.0;
      const T factor = static_cast<T>(per_exp * (1.0 + z_slope) * map_slope);
      scale_row(z, factor, V);
      target = static_cast<T>(per_exp * (z_slope * target_exp - others) * map_slope);
      if (slope == nullptr) continue;
#pragma omp simd
      for (int64_t v = 0; v < V; ++v) z[v] *= slope[v];
    }
  });
}

LossSums& LossSums::operator+=(const LossSums& other) {
  ce += other.ce;
  z += other.z;
  lse += other.lse;
  count += other.count;
  return *this;
}

LossSums sum_loss_rows(const int32_t* targets, const double* row_ce, const double* row_lse,
                       int64_t R) {
  LossSums sums;
  for (int64_t row = 0; row < R; ++row) {
    if (targets[row] < 0) continue;
    sums += {row_ce[row], row_lse[row] * row_lse[row], row_lse[row], 1};
  }
  return sums;
}

#define BALLAST_INSTANTIATE(T)                                                                \
  template void cross_entropy_rows(T*, const int32_t*, int64_t, int64_t, T, T, bool, double*, \
                                   double*, T*, LogitMap<T>);
BALLAST_INSTANTIATE(float)
BALLAST_INSTANTIATE(double)
#undef BALLAST_INSTANTIATE

}  // namespace ballast
