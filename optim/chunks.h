// The parameters cut into pieces of equal length, so that one parallel loop serves matrices and
// gains alike, and sums over a parameter have the same bits for every number of threads.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/parallel.h"
#include "core/parameter.h"

namespace ballast {

struct Chunk {
  int64_t begin = 0;     ///< first element in every slab
  int64_t size = 0;      ///< at most kSumChunk
  size_t parameter = 0;  ///< index in the order of declaration
};

class Chunks {
 public:
  explicit Chunks(const ParameterStore& store);

  size_t size() const { return chunks_.size(); }
  size_t n_parameters() const { return first_.size() - 1; }

  /// fn(index, chunk) for every chunk, in parallel.
  template <class F>
  void for_each(F&& fn) const {
    constexpr int64_t kGrain = 4;  // fewer elements than this a thread cost less than the thread
    parallel_ranges(static_cast<int64_t>(size()), kGrain, [&](int64_t begin, int64_t end) {
      for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i)
        fn(i, chunks_[i]);
    });
  }

  /// sums[p] = sum over the chunks of parameter p, added pairwise. Overwrites chunk_sums.
  void sum_parameters(std::span<double> chunk_sums, std::span<double> sums) const;

 private:
  std::vector<Chunk> chunks_;  // in the order of declaration
  std::vector<size_t> first_;  // first chunk of each parameter, and the end
};

/// Sum of terms added pairwise; overwrites them. 0 for none.
double pairwise_sum(std::span<double> terms);

/// Sum of x[i]^2 in double. Exact products and fixed lanes: the bits do not depend on the
/// instruction set when T is float.
template <class T>
double sum_of_squares(const T* x, int64_t n);

}  // namespace ballast
