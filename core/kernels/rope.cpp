#include "core/kernels/rope.h"

#include <cmath>

#include "core/kernels/rows.h"

namespace ballast {

template <class T>
void rope_table(double theta, int64_t d_rot, int64_t n_positions, T* cos, T* sin) {
  const int64_t pairs = d_rot / 2;
  for (int64_t i = 0; i < pairs; ++i) {
    const double frequency =
        std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(d_rot));
    for (int64_t position = 0; position < n_positions; ++position) {
      const double angle = static_cast<double>(position) * frequency;
      cos[position * pairs + i] = static_cast<T>(std::cos(angle));
      sin[position * pairs + i] = static_cast<T>(std::sin(angle));
    }
  }
}

namespace {

// kStep: distance of neighbouring pairs; the partner is `partner` channels further.
template <int64_t kStep, class T>
void rotate_head(T* head, int64_t partner, int64_t pairs, const T* cos, const T* sin, T direction) {
#pragma omp simd
  for (int64_t i = 0; i < pairs; ++i) {
    const T a = head[kStep * i];
    const T b = head[kStep * i + partner];
    const T s = direction * sin[i];
    head[kStep * i] = a * cos[i] - b * s;
    head[kStep * i + partner] = a * s + b * cos[i];
  }
}

}  // namespace

template <class T>
void rope_rotate(T* x, int64_t rows, int64_t T_len, int64_t position_offset, int64_t row_stride,
                 int64_t n_heads, int64_t head_dim, int64_t d_rot, RopeLayout layout, const T* cos,
                 const T* sin, bool inverse) {
  const int64_t pairs = d_rot / 2;
  const T direction = inverse ? T{-1} : T{1};
  parallel_rows(rows, n_heads * d_rot, [=](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t at = (position_offset + row % T_len) * pairs;
      for (int64_t h = 0; h < n_heads; ++h) {
        T* const head = x + row * row_stride + h * head_dim;
        if (layout == RopeLayout::half) {
          rotate_head<1>(head, pairs, pairs, cos + at, sin + at, direction);
        } else {
          rotate_head<2>(head, 1, pairs, cos + at, sin + at, direction);
        }
      }
    }
  });
}

#define BALLAST_INSTANTIATE(T)                                                                 \
  template void rope_table(double, int64_t, int64_t, T*, T*);                                  \
  template void rope_rotate(T*, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, \
                            RopeLayout, const T*, const T*, bool);
BALLAST_INSTANTIATE(float)
BALLAST_INSTANTIATE(double)
#undef BALLAST_INSTANTIATE

}  // namespace ballast
