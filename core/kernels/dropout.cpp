#include "core/kernels/dropout.h"

#include <array>
#include <cmath>

#include "core/kernels/rows.h"
#include "core/random.h"

namespace ballast {

namespace {

constexpr int64_t kBlocks = 64;          // Philox blocks drawn together
constexpr int64_t kBatch = 4 * kBlocks;  // numbers in them

// Numbers of the elements [4 first_block, 4 first_block + kBatch): element i reads word i mod 4 of
// block i / 4.
void draw(uint64_t key, uint64_t step, uint64_t first_block, uint32_t* words) {
#pragma omp simd
  for (int64_t i = 0; i < kBlocks; ++i) {
    const std::array<uint32_t, 4> block =
        Philox::block(key, step, first_block + static_cast<uint64_t>(i));
    words[4 * i] = block[0];
    words[4 * i + 1] = block[1];
    words[4 * i + 2] = block[2];
    words[4 * i + 3] = block[3];
  }
}

template <bool kAccumulate, class T>
void apply(const T* x, const uint32_t* random, int64_t n, uint32_t threshold, T factor, T* y) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    store<kAccumulate>(y[i], x[i] * (random[i] >= threshold ? factor : T{0}));
  }
}

}  // namespace

template <class T>
void dropout(const DropoutMask& mask, const T* x, int64_t rows, int64_t C, T* y, bool accumulate) {
  const uint64_t key = mix64(mask.seed ^ mix64(mask.site));
  const auto step = static_cast<uint64_t>(mask.step);
  const auto threshold = static_cast<uint32_t>(std::floor(mask.rate * 0x1p32));
  const T factor = static_cast<T>(1.0 / (1.0 - mask.rate));
  const int64_t first = mask.first_row * C;  // index in the whole batch of x[0]
  const int64_t last = first + rows * C;
  const int64_t first_batch = first / kBatch;
  const int64_t batches = (last + kBatch - 1) / kBatch - first_batch;

  with_flag(accumulate, [=](auto accumulates) {
    parallel_ranges(batches, kElementGrain / kBatch, [=](int64_t begin_batch, int64_t end_batch) {
      std::array<uint32_t, kBatch> words;
      for (int64_t batch = begin_batch; batch < end_batch; ++batch) {
        const int64_t base = (first_batch + batch) * kBatch;
        draw(key, step, static_cast<uint64_t>(base / 4), words.data());
        const int64_t begin = std::max(first, base);
        const int64_t n = std::min(last, base + kBatch) - begin;
        apply<accumulates.value>(x + (begin - first), words.data() + (begin - base), n, threshold,
                                 factor, y + (begin - first));
      }
    });
  });
}

template void dropout(const DropoutMask&, const float*, int64_t, int64_t, float*, bool);
template void dropout(const DropoutMask&, const double*, int64_t, int64_t, double*, bool);

}  // namespace ballast
