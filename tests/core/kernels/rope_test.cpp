#include "core/kernels/rope.h"

#include "tests/core/kernels/kernel_check.h"

namespace ballast {

namespace {

constexpr double kTheta = 10000.0;

struct Sizes {
  int64_t B, T_len, n_rotated, n_rest, head_dim, d_rot, offset;
  int64_t rows() const { return B * T_len; }
  int64_t stride() const { return (n_rotated + n_rest) * head_dim; }
};

template <class T>
std::vector<T> rotated(std::vector<T> x, const Sizes& s, RopeLayout layout, bool inverse) {
  const int64_t positions = s.offset + s.T_len;
  std::vector<T> cos = poisoned<T>(positions * s.d_rot / 2);
  std::vector<T> sin = cos;
  rope_table(kTheta, s.d_rot, positions, cos.data(), sin.data());
  rope_rotate(x.data(), s.rows(), s.T_len, s.offset, s.stride(), s.n_rotated, s.head_dim, s.d_rot,
              layout, cos.data(), sin.data(), inverse);
  return x;
}

// q and k heads turn, the v heads behind them stay.
Values expected_rotation(const Values& x, const Sizes& s, RopeLayout layout) {
  Values expected = reference::rope(x, s.B, s.T_len, s.n_rotated + s.n_rest, s.head_dim, s.d_rot,
                                    kTheta, layout, s.offset);
  for (int64_t row = 0; row < s.rows(); ++row) {
    for (int64_t c = s.n_rotated * s.head_dim; c < s.stride(); ++c) {
      const auto i = static_cast<size_t>(row * s.stride() + c);
      expected[i] = x[i];
    }
  }
  return expected;
}

Sizes generate_sizes() {
  return GENERATE(Sizes{1, 1, 1, 0, 2, 2, 0}, Sizes{2, 5, 3, 1, 8, 8, 0},
                  Sizes{2, 3, 3, 2, 10, 6, 7}, Sizes{1, 4, 2, 1, 64, 64, 1});
}

}  // namespace

TEST_CASE("rope_rotate matches plain maths and leaves other columns alone",
          "[core][kernels][rope]") {
  const Sizes s = generate_sizes();
  const RopeLayout layout = GENERATE(RopeLayout::half, RopeLayout::interleaved);
  RandomValues random(1);
  Values x = random.normal_vector(s.rows() * s.stride());
  CHECK(relative_error(rotated(x, s, layout, false), expected_rotation(x, s, layout)) <= 1e-15);

  // The same in float: four roundings of values no longer than the pair.
  const std::vector<float> x32 = cast<float>(x);
  const Values exact(x32.begin(), x32.end());
  CHECK(relative_error(rotated(x32, s, layout, false), expected_rotation(exact, s, layout)) <=
        4.0 * kFloatRounding);
}

TEST_CASE("The inverse rotation is the gradient of the rotation", "[core][kernels][rope]") {
  const Sizes s = generate_sizes();
  const RopeLayout layout = GENERATE(RopeLayout::half, RopeLayout::interleaved);
  RandomValues random(2);
  Values x = random.normal_vector(s.rows() * s.stride());
  const Values dy = random.normal_vector(length(x));
  const Values dx = rotated(dy, s, layout, true);
  const Values numeric =
      numeric_gradient(x, [&] { return dot(dy, expected_rotation(x, s, layout)); });
  CHECK(relative_error(dx, numeric) <= kGradientBound);
  CHECK(relative_error(rotated(rotated(x, s, layout, false), s, layout, true), x) <= 1e-15);
}

TEST_CASE("Rope angles are exact at far positions", "[core][kernels][rope]") {
  constexpr int64_t kPositions = 100001;
  std::vector<float> cos(kPositions), sin(kPositions);
  rope_table(kTheta, 2, kPositions, cos.data(), sin.data());
  CHECK(cos[0] == 1.0F);
  CHECK(sin[0] == 0.0F);
  CHECK(static_cast<double>(cos[100000]) == Approx(std::cos(1e5)).epsilon(kFloatRounding));
  CHECK(static_cast<double>(sin[100000]) == Approx(std::sin(1e5)).epsilon(kFloatRounding));
}

TEST_CASE("A position reached by an offset equals the same position of a whole row",
          "[core][kernels][rope]") {
  RandomValues random(3);
  const auto row = random.normal_vector<float>(16);
  std::vector<float> whole;
  for (int t = 0; t < 6; ++t) whole.insert(whole.end(), row.begin(), row.end());
  const RopeLayout layout = GENERATE(RopeLayout::half, RopeLayout::interleaved);
  whole = rotated(whole, {1, 6, 2, 0, 8, 8, 0}, layout, false);
  const auto last = rotated(row, {1, 1, 2, 0, 8, 8, 5}, layout, false);
  CHECK(std::vector<float>(whole.end() - 16, whole.end()) == last);
}

TEST_CASE("rope_rotate has the same bits for every number of threads", "[core][kernels][rope]") {
  const Sizes s{2, 201, 6, 2, 64, 32, 0};
  RandomValues random(4);
  const auto x = random.normal_vector<float>(s.rows() * s.stride());
  const RopeLayout layout = GENERATE(RopeLayout::half, RopeLayout::interleaved);
  CHECK(same_bits_for_all_threads([&] { return rotated(x, s, layout, false); }));
}

}  // namespace ballast
