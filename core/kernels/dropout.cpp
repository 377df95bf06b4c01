#include "core/kernels/dropout.h"

#include <array>
#include <cmath>

#include "core/kernels/philox_lanes.h"
#include "core/kernels/rows.h"
#include "core/random.h"

namespace ballast {

namespace {

constexpr size_t kBlocks = 64;  // Philox blocks drawn together
constexpr int64_t kBatch = 4 * kBlocks;
using Words = std::array<std::array<uint32_t, kBlocks>, 4>;

// Numbers of a batch of kBatch elements, in order. Element i of the whole tensor reads word
// (i mod 256) / 64 of the Philox block 64 (i / 256) + i mod 64: neighbours are neighbouring lanes.
void draw(uint64_t key, uint64_t step, uint64_t first_block, Words& words) {
  for (size_t n = 0; n < kBlocks; ++n) {
    const uint64_t block = first_block + n;
    words[0][n] = static_cast<uint32_t>(block);
    words[1][n] = static_cast<uint32_t>(block >> 32);
  }
  philox_lanes(key, step, words);
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
      Words words;
      for (int64_t batch = begin_batch; batch < end_batch; ++batch) {
        const int64_t base = (first_batch + batch) * kBatch;
        draw(key, step, static_cast<uint64_t>(base / 4), words);
        for (size_t w = 0; w < words.size(); ++w) {
          const int64_t lanes_begin = base + static_cast<int64_t>(w * kBlocks);
          const int64_t begin = std::max(first, lanes_begin);
          const int64_t n = std::min(last, lanes_begin + static_cast<int64_t>(kBlocks)) - begin;
          apply<accumulates.value>(x + (begin - first), words[w].data() + (begin - lanes_begin), n,
                                   threshold, factor, y + (begin - first));
        }
      }
    });
  });
}

template void dropout(const DropoutMask&, const float*, int64_t, int64_t, float*, bool);
template void dropout(const DropoutMask&, const double*, int64_t, int64_t, double*, bool);

}  // namespace ballast
