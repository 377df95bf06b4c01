#include "core/matmul.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/random_tensor.h"
#include "tests/support/threads.h"

namespace ballast {

namespace {

struct Sizes {
  int64_t m, n, k;
};

// Rows or columns of a stored matrix beyond what the product uses.
struct Layout {
  bool trans_a = false, trans_b = false;
  int64_t extra = 0;  // leading dimensions are larger than the width by this
};

template <class T>
struct Problem {
  Sizes z;
  Layout layout;
  std::vector<T> a, b, bias, c;
  int64_t lda, ldb, ldc;

  Problem(Sizes sizes, Layout l, RandomValues& random)
      : z(sizes),
        layout(l),
        lda((l.trans_a ? z.m : z.k) + l.extra),
        ldb((l.trans_b ? z.k : z.n) + l.extra),
        ldc(z.n + l.extra) {
    a = random.normal_vector<T>(lda * (l.trans_a ? z.k : z.m));
    b = random.normal_vector<T>(ldb * (l.trans_b ? z.n : z.k));
    bias = random.normal_vector<T>(z.n);
    c = random.normal_vector<T>(ldc * z.m);
  }

  void run(bool with_bias, bool accumulate, MatmulPath path) {
    matmul<T>(z.m, z.n, z.k, {a.data(), lda, layout.trans_a}, {b.data(), ldb, layout.trans_b},
              accumulate, {c.data(), ldc}, with_bias ? bias.data() : nullptr, path);
  }

  double a_at(int64_t i, int64_t l) const {
    return static_cast<double>(a[static_cast<size_t>(layout.trans_a ? l * lda + i : i * lda + l)]);
  }
  double b_at(int64_t l, int64_t j) const {
    return static_cast<double>(b[static_cast<size_t>(layout.trans_b ? j * ldb + l : l * ldb + j)]);
  }
};

// Elements further from the exact sum than rounding explains: the last of k + 2 operations on it
// rounds by half a unit of the sum of |terms|, and so did all before.
template <class T>
int64_t n_wrong(const Problem<T>& p, const std::vector<T>& before, bool with_bias,
                bool accumulate) {
  const double unit = static_cast<double>(std::numeric_limits<T>::epsilon()) / 2;
  int64_t n = 0;
  for (int64_t i = 0; i < p.z.m; ++i) {
    for (int64_t j = 0; j < p.z.n; ++j) {
      const auto at = static_cast<size_t>(i * p.ldc + j);
      double exact = with_bias ? static_cast<double>(p.bias[static_cast<size_t>(j)]) : 0.0;
      if (accumulate) exact += static_cast<double>(before[at]);
      double size = std::abs(exact);
      for (int64_t l = 0; l < p.z.k; ++l) {
        exact += p.a_at(i, l) * p.b_at(l, j);
        size += std::abs(p.a_at(i, l) * p.b_at(l, j));
      }
      const double error = std::abs(static_cast<double>(p.c[at]) - exact);
      if (!(error <= static_cast<double>(p.z.k + 2) * unit * size)) ++n;  // so is a NaN
    }
  }
  return n;
}

// Columns of C beyond its width belong to somebody else.
template <class T>
bool padding_untouched(const Problem<T>& p, const std::vector<T>& before) {
  for (int64_t i = 0; i < p.z.m; ++i) {
    for (int64_t j = p.z.n; j < p.ldc; ++j) {
      const auto at = static_cast<size_t>(i * p.ldc + j);
      if (std::memcmp(&p.c[at], &before[at], sizeof(T)) != 0) return false;
    }
  }
  return true;
}

template <class T>
void check_product(Sizes z, Layout layout, bool with_bias, bool accumulate, MatmulPath path,
                   RandomValues& random) {
  Problem<T> p(z, layout, random);
  // Unless it accumulates, a product must not read what it overwrites.
  if (!accumulate) p.c.assign(p.c.size(), std::numeric_limits<T>::quiet_NaN());
  const std::vector<T> before = p.c;
  p.run(with_bias, accumulate, path);
  INFO("m " << z.m << ", n " << z.n << ", k " << z.k << ", transposed " << layout.trans_a << ' '
            << layout.trans_b << ", extra " << layout.extra << ", bias " << with_bias
            << ", accumulate " << accumulate << ", path " << static_cast<int>(path));
  CHECK(n_wrong(p, before, with_bias, accumulate) == 0);
  CHECK(padding_untouched(p, before));
}

// Rows, columns and depths of 1, odd ones, and more rows than where the packed path begins.
const std::vector<Sizes> kSizes = {{1, 1, 1},   {1, 7, 5},    {7, 1, 5},     {5, 3, 1},
                                   {3, 17, 33}, {33, 65, 17}, {129, 31, 63}, {257, 19, 45}};

}  // namespace

TEST_CASE("every path of a product agrees with the sum of its terms", "[core][matmul]") {
  const MatmulPath path =
      GENERATE(MatmulPath::automatic, MatmulPath::sgemm, MatmulPath::plain, MatmulPath::packed);
  RandomValues random(21);
  for (const Sizes z : kSizes) {
    for (const bool trans_a : {false, true}) {
      for (const bool trans_b : {false, true}) {
        for (const int64_t extra : {0, 3}) {
          const Layout layout{trans_a, trans_b, extra};
          check_product<float>(z, layout, false, false, path, random);
          check_product<float>(z, layout, true, false, path, random);
          if (path == MatmulPath::automatic || path == MatmulPath::sgemm) {
            check_product<float>(z, layout, false, true, path, random);
          }
        }
      }
    }
  }
}

TEST_CASE("a float64 product agrees with the sum of its terms", "[core][matmul]") {
  RandomValues random(22);
  for (const Sizes z : kSizes) {
    for (const bool trans_a : {false, true}) {
      for (const bool trans_b : {false, true}) {
        const Layout layout{trans_a, trans_b, 3};
        check_product<double>(z, layout, false, false, MatmulPath::automatic, random);
        check_product<double>(z, layout, true, false, MatmulPath::automatic, random);
        check_product<double>(z, layout, false, true, MatmulPath::automatic, random);
      }
    }
  }
}

TEST_CASE("a product without rows or columns touches nothing", "[core][matmul]") {
  float c = 5.0F;
  matmul<float>(0, 3, 4, {nullptr, 4}, {nullptr, 3}, false, {&c, 3});
  matmul<float>(1, 0, 4, {nullptr, 4}, {nullptr, 1}, false, {&c, 1});
  CHECK(c == 5.0F);
}

TEST_CASE("a product repeated has the same bits", "[core][matmul]") {
  const MatmulPath path = GENERATE(MatmulPath::sgemm, MatmulPath::plain, MatmulPath::packed);
  const WithThreads with(GENERATE(1, 2, 3));
  RandomValues random(24);
  for (const Sizes z : {Sizes{300, 70, 130}, Sizes{17, 300, 900}}) {
    Problem<float> p(z, {false, true, 0}, random);
    p.run(true, false, path);
    const std::vector<float> first = p.c;
    for (int repeat = 0; repeat < 3; ++repeat) {
      // Other products in between must not change what a cached one does.
      Problem<float> other({z.m + 1, z.n, z.k}, {false, true, 0}, random);
      other.run(false, false, path);
      p.run(true, false, path);
      CHECK(std::memcmp(p.c.data(), first.data(), first.size() * sizeof(float)) == 0);
    }
  }
}

TEST_CASE("a float64 product has the same bits for every number of threads", "[core][matmul]") {
  RandomValues random(25);
  Problem<double> p({67, 41, 53}, {}, random);
  std::vector<double> first;
  for (const int threads : {1, 2, 3, 4}) {
    const WithThreads with(threads);
    p.run(true, false, MatmulPath::automatic);
    if (first.empty()) first = p.c;
    CHECK(p.c == first);
  }
}

TEST_CASE("products name what they cannot do", "[core][matmul]") {
  float x[4] = {};
  float c[4] = {};
  CHECK_THROWS_WITH(matmul<float>(2, 2, 2, {x, 2}, {x, 2}, true, {c, 2}, x),
                    ContainsSubstring("[matmul] a bias cannot be added while accumulating"));
  CHECK_THROWS_WITH(matmul<float>(2, 2, 2, {x, 2}, {x, 2}, false, {c, 2, true}),
                    ContainsSubstring("the result cannot be transposed"));
  CHECK_THROWS_WITH(
      matmul<float>(2, 2, 2, {x, 2}, {x, 2}, true, {c, 2}, nullptr, MatmulPath::plain),
      ContainsSubstring("only the sgemm path accumulates"));
}

TEST_CASE("a product of depth 0 is refused in float and double alike", "[core][matmul]") {
  float c[4] = {};
  double d[4] = {};
  CHECK_THROWS_WITH(matmul<float>(2, 2, 0, {c, 1}, {c, 2}, false, {c, 2}),
                    ContainsSubstring("[matmul] the depth is 0"));
  CHECK_THROWS_WITH(matmul<double>(2, 2, 0, {d, 1}, {d, 2}, false, {d, 2}),
                    ContainsSubstring("[matmul] the depth is 0"));
}

TEST_CASE("the backend names its version", "[core][matmul]") {
  CHECK_THAT(matmul_backend(), ContainsSubstring("oneDNN "));
}

}  // namespace ballast
