// A store with parameters of every role and awkward sizes, filled with reproducible numbers.
#pragma once

#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/parallel.h"
#include "core/parameter.h"
#include "optim/optimizer.h"

namespace ballast::test {

/// A number in (-1, 1) that looks random and depends on i alone.
inline double scattered(int64_t i) {
  const double x = std::sin(static_cast<double>(i) * 12.9898 + 4.1414) * 43758.5453;
  return 2.0 * (x - std::floor(x)) - 1.0;
}

/// Sizes below, at and above one chunk, and a joined run that begins off the usual alignment.
inline void declare(ParameterStore& store, Dtype dtype) {
  store.add("embedding.weight", {37, 64}, Role::embedding);
  store.add("position.weight", {5, 64}, Role::position);
  const ParameterStore::Declaration qkv[] = {
      {"wq.weight", {63, 65}}, {"wk.weight", {1, 65}}, {"wv.weight", {129, 65}}};
  store.add_joined(qkv, Role::linear);
  store.add("large.weight", {300, 257}, Role::linear);
  store.add("chunk.weight", {64, 64}, Role::linear);
  store.add("norm.weight", {64}, Role::norm);
  store.add("norm_offset.weight", {64}, Role::offset);
  store.add("bias", {3}, Role::bias);
  store.add("head.weight", {37, 64}, Role::head);
  store.allocate(dtype);
}

template <class T>
void fill(const Tensor& tensor, double size, int64_t salt) {
  T* x = tensor.data<T>();
  for (int64_t i = 0; i < tensor.size(); ++i) {
    x[i] = static_cast<T>(size * scattered(i + salt * 1000003));
  }
}

template <class T>
std::vector<T> copy(const Tensor& tensor) {
  return {tensor.data<T>(), tensor.data<T>() + tensor.size()};
}

/// One weight, to compare with arithmetic by hand.
struct Scalar {
  explicit Scalar(OptimConfig c, Role role = Role::linear) {
    store.add("w", {1}, role);
    store.allocate(Dtype::f64);
    optimizer = make_optimizer(c, store);
  }
  double step(double gradient, double lr, double scale = 1.0) {
    store.gradients().data<double>()[0] = gradient;
    optimizer->step(lr, scale);
    return w();
  }
  double& w() { return store.values().data<double>()[0]; }

  ParameterStore store;
  std::unique_ptr<Optimizer> optimizer;
};

/// Restores the number of threads when a test ends.
struct ThreadCount {
  explicit ThreadCount(int n) : before(n_threads()) { set_n_threads(n); }
  ~ThreadCount() { set_n_threads(before); }
  ThreadCount(const ThreadCount&) = delete;
  ThreadCount& operator=(const ThreadCount&) = delete;
  int before;
};

}  // namespace ballast::test
