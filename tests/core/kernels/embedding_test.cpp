#include "core/kernels/embedding.h"

#include "tests/core/kernels/kernel_check.h"

namespace ballast {

namespace {

struct Sizes {
  int64_t B, T_len, C, V;
  int64_t rows() const { return B * T_len; }
};

Sizes generate_sizes() {
  return GENERATE(Sizes{1, 1, 1, 1}, Sizes{2, 7, 5, 4}, Sizes{3, 5, 130, 40});
}

// scale * table[token] + position[offset + t], one value at a time.
Values reference_embedding(const std::vector<int32_t>& tokens, const Values& table,
                           const Values& positions, const Sizes& s, double scale, int64_t offset) {
  Values y = reference::embedding(tokens, table, s.C);
  for (size_t i = 0; i < y.size(); ++i) {
    const auto C = static_cast<size_t>(s.C);
    const size_t t = i / C % static_cast<size_t>(s.T_len) + static_cast<size_t>(offset);
    y[i] = scale * y[i] + (positions.empty() ? 0.0 : positions[t * C + i % C]);
  }
  return y;
}

}  // namespace

TEST_CASE("Embedding matches plain maths and finite differences", "[core][kernels][embedding]") {
  const Sizes s = generate_sizes();
  constexpr double kScale = 1.7;
  RandomValues random(1);
  const auto tokens = random.tokens(s.rows(), s.V);
  Values table = random.normal_vector(s.V * s.C);
  Values positions = random.normal_vector((s.T_len + 3) * s.C);
  const Values dy = random.normal_vector(s.rows() * s.C);

  const int64_t offset = GENERATE(0, 3);
  Values y = poisoned(s.rows() * s.C);
  embedding_forward(tokens.data(), s.rows(), s.C, table.data(), positions.data(), s.T_len, offset,
                    kScale, y.data());
  CHECK(relative_error(y, reference_embedding(tokens, table, positions, s, kScale, offset)) <=
        1e-15);
  embedding_forward<double>(tokens.data(), s.rows(), s.C, table.data(), nullptr, s.T_len, offset,
                            kScale, y.data());
  CHECK(relative_error(y, reference_embedding(tokens, table, {}, s, kScale, offset)) <= 1e-15);

  const auto loss = [&] {
    return dot(dy, reference_embedding(tokens, table, positions, s, kScale, 0));
  };
  Values dtable = poisoned(length(table));
  embedding_backward(dy.data(), tokens.data(), s.rows(), s.C, s.V, kScale, dtable.data(), false);
  CHECK(relative_error(dtable, numeric_gradient(table, loss)) <= kGradientBound);
  Values dpos = poisoned(length(positions));
  position_backward(dy.data(), s.B, s.T_len, s.C, dpos.data(), s.T_len + 3, false);
  CHECK(relative_error(dpos, numeric_gradient(positions, loss)) <= kGradientBound);

  Values added(dtable.size(), 2.0);
  embedding_backward(dy.data(), tokens.data(), s.rows(), s.C, s.V, kScale, added.data(), true);
  for (double& value : dtable) value += 2.0;
  CHECK(relative_error(added, dtable) <= 1e-14);
  added.assign(dpos.size(), 2.0);
  position_backward(dy.data(), s.B, s.T_len, s.C, added.data(), s.T_len + 3, true);
  for (double& value : dpos) value += 2.0;
  CHECK(relative_error(added, dpos) <= 1e-14);
}

TEST_CASE("Rows of the table that no token reads get a zero gradient",
          "[core][kernels][embedding]") {
  const std::vector<int32_t> tokens = {2, 2};
  const std::vector<float> dy = {1.0F, 2.0F, 3.0F, 4.0F};
  auto dtable = poisoned<float>(8);
  embedding_backward(dy.data(), tokens.data(), 2, 2, 4, 0.5F, dtable.data(), false);
  CHECK(dtable == std::vector<float>{0, 0, 0, 0, 2, 3, 0, 0});
}

TEST_CASE("Embedding gradients have the same bits for every number of threads",
          "[core][kernels][embedding]") {
  constexpr int64_t kB = 4, kT = 128, kC = 301, kV = 50;
  RandomValues random(2);
  const auto tokens = random.tokens(kB * kT, kV);
  const auto dy = random.normal_vector<float>(kB * kT * kC);
  CHECK(same_bits_for_all_threads([&] {
    auto dtable = poisoned<float>(kV * kC);
    embedding_backward(dy.data(), tokens.data(), kB * kT, kC, kV, 1.3F, dtable.data(), false);
    return dtable;
  }));
  CHECK(same_bits_for_all_threads([&] {
    auto dpos = poisoned<float>(kT * kC);
    position_backward(dy.data(), kB, kT, kC, dpos.data(), kT, false);
    return dpos;
  }));
}

}  // namespace ballast
