#include "core/kernels/elementwise.h"

#include <bit>

#include "tests/core/kernels/kernel_check.h"

namespace ballast {

TEST_CASE("Elementwise kernels compute what they are named after", "[core][kernels][elementwise]") {
  const int64_t n = GENERATE(1, 7, 1000, 100003);
  RandomValues random(1);
  const auto a = random.normal_vector<float>(n);
  const auto b = random.normal_vector<float>(n);
  auto sum = poisoned<float>(n), scaled = poisoned<float>(n), copied = poisoned<float>(n),
       filled = poisoned<float>(n);
  std::vector<float> added = a, scaled_in = a;
  add(a.data(), b.data(), n, sum.data());
  add_inplace(b.data(), n, added.data());
  scale(a.data(), 2.0F, n, scaled.data());
  scale(b.data(), 2.0F, n, scaled_in.data(), true);
  copy(a.data(), n, copied.data());
  fill(2.5F, n, filled.data());
  CHECK(copied == a);
  // Doubling is exact: contracted or not, the sum is rounded once.
  int64_t wrong = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const bool is_right = sum[i] == a[i] + b[i] && added[i] == sum[i] && scaled[i] == 2.0F * a[i] &&
                          scaled_in[i] == a[i] + 2.0F * b[i] && filled[i] == 2.5F;
    if (!is_right) ++wrong;
  }
  CHECK(wrong == 0);
}

TEST_CASE("Conversion to bf16 rounds to nearest even and back is exact",
          "[core][kernels][elementwise]") {
  // Every bf16 value, the ties between neighbours, and just beside the ties.
  std::vector<float> x;
  for (uint32_t high = 0; high < 0x10000U; ++high) {
    for (const uint32_t low : {0x0000U, 0x7fffU, 0x8000U, 0x8001U}) {
      x.push_back(std::bit_cast<float>(high << 16 | low));
    }
  }
  const int64_t n = length(x);
  std::vector<bf16> narrow(x.size());
  auto wide = poisoned<float>(n);
  convert(x.data(), n, narrow.data());
  convert(narrow.data(), n, wide.data());

  int64_t wrong = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const auto high = static_cast<uint16_t>(i / 4);
    if (std::isnan(x[i])) {
      if (!std::isnan(wide[i])) ++wrong;
      continue;
    }
    const bool rounds_up = i % 4 == 3 || (i % 4 == 2 && high % 2 == 1);  // above the tie, odd tie
    if (narrow[i].bits != high + (rounds_up ? 1 : 0)) ++wrong;
    if (std::bit_cast<uint32_t>(wide[i]) != uint32_t{narrow[i].bits} << 16) ++wrong;
  }
  CHECK(wrong == 0);
}

TEST_CASE("column_sum and add_bias work on rows", "[core][kernels][elementwise]") {
  const auto [rows, N] = generate_row_shape();
  CAPTURE(rows, N);
  RandomValues random(2);
  const Values x = random.normal_vector(rows * N);
  const Values b = random.normal_vector(N);
  Values sums(static_cast<size_t>(N), 0.0);
  Values biased = x;
  for (size_t i = 0; i < x.size(); ++i) {
    sums[i % b.size()] += x[i];
    biased[i] += b[i % b.size()];
  }
  Values y = x;
  add_bias(y.data(), rows, N, N, b.data());
  CHECK(y == biased);

  Values out = poisoned(N);
  column_sum(x.data(), rows, N, N, out.data(), false);
  CHECK(relative_error(out, sums, 1.0) <= 1e-14);
  Values added = b;
  column_sum(x.data(), rows, N, N, added.data(), true);
  for (size_t c = 0; c < sums.size(); ++c) sums[c] += b[c];
  CHECK(relative_error(added, sums, 1.0) <= 1e-14);
}

TEST_CASE("column_sum of no rows is zero", "[core][kernels][elementwise]") {
  auto out = poisoned<float>(3);
  column_sum<float>(nullptr, 0, 3, 3, out.data(), false);
  CHECK(out == std::vector<float>{0, 0, 0});
}

TEST_CASE("column_sum has the same bits for every number of threads and small error in float",
          "[core][kernels][elementwise]") {
  constexpr int64_t kRows = 2051;
  constexpr int64_t kN = 133;
  RandomValues random(3);
  const auto x = random.normal_vector<float>(kRows * kN, 1.0);
  const auto run = [&x] {
    auto out = poisoned<float>(kN);
    column_sum(x.data(), kRows, kN, kN, out.data(), false);
    return out;
  };
  CHECK(same_bits_for_all_threads(run));
  Values exact(kN, 0.0);
  for (size_t i = 0; i < x.size(); ++i) exact[i % kN] += static_cast<double>(x[i]);
  // 18 additions to a chunk's sum, 33 chunks.
  CHECK(relative_error(run(), exact) <= 51.0 * kFloatRounding);
}

}  // namespace ballast
