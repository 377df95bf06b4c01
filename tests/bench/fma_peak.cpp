// Prints the machine's float32 FMA peak in GFLOP/s for a number of threads: what MFU is a share of.
//   fma_peak [threads]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "core/parallel.h"

namespace {

#ifdef __AVX512F__
constexpr int kBytes = 64;
#else
constexpr int kBytes = 32;
#endif
typedef float Vector __attribute__((vector_size(kBytes)));
constexpr int kChains =
    12;  // independent, to hide the latency of an FMA; they fit into 16 registers
constexpr int64_t kRounds = 4'000'000;

// FMA chains that end in a number nobody can predict at compile time.
float run_chains(float start) {
  Vector chains[kChains];
  for (int i = 0; i < kChains; ++i) chains[i] = Vector{} + (start + static_cast<float>(i));
  const Vector a = Vector{} + 0.5F;
  const Vector b = Vector{} + 1.0F;
  for (int64_t r = 0; r < kRounds; ++r) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) chains[i] = chains[i] * a + b;
  }
  float sum = 0.0F;
  for (const Vector& chain : chains) sum += chain[0];
  return sum;
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : ballast::n_threads();
  ballast::set_n_threads(threads);
  constexpr double kLanes = kBytes / sizeof(float);
  double best = 0.0;
  volatile float sink = 0.0F;
  for (int repeat = 0; repeat < 10; ++repeat) {
    const auto start = std::chrono::steady_clock::now();
    ballast::parallel_ranges(
        threads, 1, [&](int64_t begin, int64_t) { sink = run_chains(static_cast<float>(begin)); });
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    best = std::max(best, threads * 2.0 * kLanes * kChains * static_cast<double>(kRounds) /
                              seconds.count() / 1e9);
  }
  std::printf("%.0f\n", best);
}
