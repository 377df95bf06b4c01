// Needs core's headers, its library and, through it, oneDNN's.
#include <array>
#include <cstdio>

#include "core/matmul.h"

int main() {
  const std::array<float, 4> a = {1, 2, 3, 4};
  const std::array<float, 4> b = {5, 6, 7, 8};
  std::array<float, 4> c = {};
  ballast::matmul<float>(2, 2, 2, {a.data(), 2}, {b.data(), 2}, false, {c.data(), 2});
  std::printf("%g %g %g %g\n", c[0], c[1], c[2], c[3]);
}
