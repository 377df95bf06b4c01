#include "core/kernels/tile.h"

#include <cmath>
#include <limits>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/random_tensor.h"

namespace ballast {

namespace {

template <class T>
struct Operands {
  int64_t m, n, k, lda, ldb, ldc;
  std::vector<T> a, b, c;

  Operands(int64_t rows, int64_t columns, int64_t depth, bool transposed, RandomValues& random)
      : m(rows),
        n(columns),
        k(depth),
        lda((transposed ? rows : depth) + 3),
        ldb(tile::padded<T>(columns) + 1),
        ldc(columns + 2),
        a(random.normal_vector<T>((transposed ? depth : rows) * lda)),
        b(random.normal_vector<T>(depth * ldb)),
        c(random.normal_vector<T>(rows * ldc)) {
    // What pads a row of B may be anything; it must not reach C.
    for (int64_t r = 0; r < k; ++r) {
      for (int64_t x = n; x < ldb; ++x) {
        b[static_cast<size_t>(r * ldb + x)] = std::numeric_limits<T>::quiet_NaN();
      }
    }
  }

  double a_at(int64_t row, int64_t step, bool transposed) const {
    return static_cast<double>(
        a[static_cast<size_t>(transposed ? step * lda + row : row * lda + step)]);
  }

  // Largest error of `result` as a share of the bound of a chain of k + 1 operations,
  // (k + 1) u (|c| + sum |a b|), twice because in double the sum to compare with errs as much;
  // columns outside C must be as they were.
  double worst_share(const std::vector<T>& result, bool transposed, bool accumulate,
                     tile::Depth depth) const {
    const double u = static_cast<double>(std::numeric_limits<T>::epsilon()) / 2.0;
    double worst = 0.0;
    for (int64_t row = 0; row < m; ++row) {
      for (int64_t column = 0; column < ldc; ++column) {
        const auto at = static_cast<size_t>(row * ldc + column);
        double want = accumulate || column >= n ? static_cast<double>(c[at]) : 0.0;
        double size = std::fabs(want);
        for (int64_t step = depth.begin; step < depth.end && column < n; ++step) {
          const double term = a_at(row, step, transposed) *
                              static_cast<double>(b[static_cast<size_t>(step * ldb + column)]);
          want += term;
          size += std::fabs(term);
        }
        const double error = std::fabs(static_cast<double>(result[at]) - want);
        const double bound = column < n ? 2.0 * static_cast<double>(k + 1) * u * size : 0.0;
        if (!(error <= bound)) worst = std::max(worst, bound > 0.0 ? error / bound : 1e30);
        if (std::isnan(error)) worst = 1e30;
      }
    }
    return worst;
  }
};

template <bool kTransposed, class T>
double error_of_product(int64_t m, int64_t n, int64_t k, bool accumulate) {
  RandomValues random(static_cast<uint64_t>(m * 10007 + n * 101 + k));
  Operands<T> x(m, n, k, kTransposed, random);
  std::vector<T> c = x.c;
  tile::multiply<kTransposed>(m, n, k, x.a.data(), x.lda, x.b.data(), x.ldb, c.data(), x.ldc,
                              accumulate);
  return x.worst_share(c, kTransposed, accumulate, {0, k});
}

}  // namespace

TEST_CASE("a tile product equals the sum of products, for every remainder of rows and columns",
          "[core][tile]") {
  const int64_t m = GENERATE(1, 2, 3, 4, 5, 6, 7, 8, 11, 16, 64);
  const int64_t n = GENERATE(1, 5, 8, 15, 16, 17, 31, 32, 33, 64, 80);
  const int64_t k = GENERATE(1, 2, 24, 65);
  const bool accumulate = GENERATE(false, true);
  CAPTURE(m, n, k, accumulate);
  CHECK(error_of_product<false, float>(m, n, k, accumulate) <= 1.0);
  CHECK(error_of_product<true, float>(m, n, k, accumulate) <= 1.0);
  CHECK(error_of_product<false, double>(m, n, k, accumulate) <= 1.0);
  CHECK(error_of_product<true, double>(m, n, k, accumulate) <= 1.0);
}

TEST_CASE("an element of a tile product has the same bits wherever it lies in a block",
          "[core][tile]") {
  RandomValues random(3);
  const int64_t m = 23, n = 40, k = 37;
  const Operands<float> x(m, n, k, false, random);
  std::vector<float> whole(static_cast<size_t>(m * n)), row(static_cast<size_t>(n));
  tile::multiply<false>(m, n, k, x.a.data(), x.lda, x.b.data(), x.ldb, whole.data(), n, false);
  for (int64_t r = 0; r < m; ++r) {
    tile::multiply<false>(1, n, k, x.a.data() + r * x.lda, x.lda, x.b.data(), x.ldb, row.data(), n,
                          false);
    const bool same = std::equal(row.begin(), row.end(), whole.begin() + r * n);
    CHECK(same);
  }
}

TEST_CASE("a tile product sums only the depth it is given and leaves empty blocks untouched",
          "[core][tile]") {
  RandomValues random(4);
  const int64_t m = 4 * tile::kRows, n = 3 * tile::kPanel<float>, k = 33;
  const Operands<float> x(m, n, k, true, random);
  std::vector<float> c = x.c;
  const tile::Depth depth{7, 29};
  tile::multiply<true>(m, n, x.a.data(), x.lda, x.b.data(), x.ldb, c.data(), x.ldc, true,
                       [=](int64_t, int64_t, int64_t, int64_t) { return depth; });
  CHECK(x.worst_share(c, true, true, depth) <= 1.0);

  c = x.c;
  tile::multiply<true>(
      m, n, x.a.data(), x.lda, x.b.data(), x.ldb, c.data(), x.ldc, false,
      [=](int64_t row, int64_t rows, int64_t column, int64_t columns) {
        CHECK(rows == tile::kRows);
        CHECK(columns == tile::kPanel<float>);
        return row < tile::kRows || column > 0 ? tile::Depth{5, 5} : tile::Depth{0, k};
      });
  for (int64_t row = 0; row < m; ++row) {
    for (int64_t column = 0; column < n; ++column) {
      const auto at = static_cast<size_t>(row * x.ldc + column);
      const bool is_touched = row >= tile::kRows && column < tile::kPanel<float>;
      if ((c[at] != x.c[at]) != is_touched) FAIL("row " << row << ", column " << column);
    }
  }
}

}  // namespace ballast
