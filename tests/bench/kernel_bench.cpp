// Time and memory traffic of each kernel: kernel_bench [threads [name]]
// GB/s counts what a kernel must read and write at least once, so caches and extra passes show.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "core/kernels/activation.h"
#include "core/kernels/cross_entropy.h"
#include "core/kernels/dropout.h"
#include "core/kernels/elementwise.h"
#include "core/kernels/embedding.h"
#include "core/kernels/glu.h"
#include "core/kernels/norm.h"
#include "core/kernels/reduce.h"
#include "core/kernels/rope.h"
#include "core/kernels/scaling.h"
#include "core/kernels/vec_math.h"
#include "core/parallel.h"

namespace ballast {
namespace {

using Floats = std::vector<float>;

constexpr int64_t kRows = 4096;
constexpr int64_t kC = 512;
constexpr int64_t kF = 1376;
constexpr int64_t kV = 8192;
constexpr int64_t kLossRows = 512;  // one chunk of logits
constexpr int64_t kT = 512;
constexpr int64_t kHeadDim = 64;

// Cheap, different everywhere, between -2 and 2.
Floats values(int64_t n) {
  Floats x(static_cast<size_t>(n));
  uint32_t state = 1;
  for (float& value : x) {
    state = state * 1664525U + 1013904223U;
    value = static_cast<float>(state >> 8) * 0x1p-22F - 2.0F;
  }
  return x;
}

class Bench {
 public:
  explicit Bench(std::string wanted) : wanted_(std::move(wanted)) {}

  // Best of 15: other programs only ever add time. `floats` are read or written, `n` results made.
  template <class F>
  void run(const char* name, int64_t floats, int64_t n, F&& kernel) {
    if (!wanted_.empty() && std::string(name).find(wanted_) == std::string::npos) return;
    double best = 1e30;
    for (int i = 0; i < 15; ++i) {
      const auto begin = std::chrono::steady_clock::now();
      kernel();
      const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
      best = std::min(best, took.count());
    }
    std::printf("%-32s %9.3f ms %8.1f GB/s %8.2f G/s\n", name, best * 1e3,
                static_cast<double>(floats) * 4e-9 / best, static_cast<double>(n) * 1e-9 / best);
  }

 private:
  std::string wanted_;
};

void run_norms(Bench& bench) {
  constexpr int64_t n = kRows * kC;
  const Floats x = values(n), f = values(n), w = values(kC), b = values(kC);
  Floats s(n), y(n), dx(n), df(n), dw(kC), db(kC), mean(kRows), rstd(kRows);
  bench.run("layer_norm forward", 2 * n, n, [&] {
    layer_norm_forward(x.data(), w.data(), b.data(), 0.0F, 1e-5F, kRows, kC, y.data(), mean.data(),
                       rstd.data());
  });
  bench.run("layer_norm backward", 3 * n, n, [&] {
    layer_norm_backward(f.data(), x.data(), w.data(), 0.0F, mean.data(), rstd.data(), kRows, kC,
                        dx.data(), false, dw.data(), false, db.data(), false);
  });
  bench.run("rms_norm forward", 2 * n, n, [&] {
    rms_norm_forward(x.data(), w.data(), 0.0F, 1e-5F, kRows, kC, y.data(), rstd.data());
  });
  bench.run("rms_norm backward", 3 * n, n, [&] {
    rms_norm_backward(f.data(), x.data(), w.data(), 0.0F, rstd.data(), kRows, kC, dx.data(), false,
                      dw.data(), false);
  });
  bench.run("add_rms_norm forward", 4 * n, n, [&] {
    add_rms_norm_forward(x.data(), f.data(), w.data(), 0.0F, 1e-5F, kRows, kC, s.data(), y.data(),
                         rstd.data());
  });
  bench.run("add_rms_norm backward", 4 * n, n, [&] {
    rms_norm_backward(f.data(), s.data(), w.data(), 0.0F, rstd.data(), kRows, kC, dx.data(), true,
                      dw.data(), false);
  });
}

void run_other_norms(Bench& bench) {
  constexpr int64_t n = kRows * kC;
  const Floats x = values(n), f = values(n), w = values(kC), b = values(kC);
  Floats s(n), y(n), dx(n), dw(kC), db(kC), inverse(kRows);
  float dg = 0.0F;
  bench.run("scale_norm forward", 2 * n, n, [&] {
    scale_norm_forward(x.data(), 22.0F, 1e-5F, kRows, kC, y.data(), inverse.data());
  });
  bench.run("add_scale_norm forward", 4 * n, n, [&] {
    add_scale_norm_forward(x.data(), f.data(), 22.0F, 1e-5F, kRows, kC, s.data(), y.data(),
                           inverse.data());
  });
  bench.run("scale_norm backward", 3 * n, n, [&] {
    scale_norm_backward(f.data(), x.data(), 22.0F, 1e-5F, inverse.data(), kRows, kC, dx.data(),
                        false, &dg, false);
  });
  bench.run("dyt forward", 2 * n, n,
            [&] { dyt_forward(x.data(), 0.5F, w.data(), b.data(), kRows, kC, y.data()); });
  bench.run("add_dyt forward", 4 * n, n, [&] {
    add_dyt_forward(x.data(), f.data(), 0.5F, w.data(), b.data(), kRows, kC, s.data(), y.data());
  });
  bench.run("dyt backward", 3 * n, n, [&] {
    dyt_backward(f.data(), x.data(), 0.5F, w.data(), kRows, kC, dx.data(), false, &dg, false,
                 dw.data(), false, db.data(), false);
  });
}

// q and k of rows of q | k | v, by heads and as two whole projections.
void run_head_norms(Bench& bench) {
  constexpr int64_t W = 2 * kC, stride = 3 * kC, n = kRows * W;
  Floats qkv = values(kRows * stride), gain = values(W), shift = values(W);
  Floats xhat(n), rstd(kRows * W / kHeadDim), dgain(W), dshift(W);
  for (const int64_t D : {kHeadDim, kC}) {
    for (const bool is_centred : {false, true}) {
      std::vector<int64_t> bounds;
      for (int64_t at = 0; at <= W; at += D) bounds.push_back(at);
      const HeadGroups groups{bounds.data(), W / D, is_centred};
      const std::string name =
          std::string("head_norm ") + (is_centred ? "layernorm " : "rmsnorm ") + std::to_string(D);
      bench.run((name + " forward").c_str(), 3 * n, n, [&] {
        head_norm_forward(qkv.data(), kRows, stride, groups, gain.data(), shift.data(), 1e-5F,
                          xhat.data(), rstd.data());
      });
      bench.run((name + " backward").c_str(), 3 * n, n, [&] {
        head_norm_backward(qkv.data(), kRows, stride, groups, gain.data(), xhat.data(), rstd.data(),
                           dgain.data(), dshift.data());
      });
    }
  }
}

void run_scaling(Bench& bench) {
  constexpr int64_t n = kRows * kC;
  const Floats x = values(n), dy = values(n), w = values(kC);
  Floats y(n), dw(kC), qkv = values(3 * n);
  const std::vector<double> factors(kT, 1.0);
  bench.run("scale_columns forward", 2 * n, n,
            [&] { scale_columns_forward(x.data(), w.data(), 0.5F, kRows, kC, y.data()); });
  bench.run("scale_columns backward", 3 * n, n, [&] {
    scale_columns_backward(dy.data(), x.data(), w.data(), 0.5F, kRows, kC, y.data(), false,
                           dw.data(), false);
  });
  bench.run("scale_rows", 2 * n, n,
            [&] { scale_rows(qkv.data(), kRows, kC, 3 * kC, factors.data(), kT); });
  bench.run("softcap forward", 2 * n, n,
            [&] { softcap_forward(x.data(), 30.0F, 1.0F, n, y.data()); });
  bench.run("softcap backward", 3 * n, n,
            [&] { softcap_backward(dy.data(), x.data(), 30.0F, 1.0F, n, y.data(), false); });
}

void run_activations(Bench& bench) {
  constexpr int64_t n = kRows * kF;
  const Floats gate_up = values(2 * n), dy = values(n);
  Floats y(n), dx(n), dgate_up(2 * n);
  const struct {
    ActivationKind kind;
    const char* name;
  } kinds[] = {{ActivationKind::relu, "relu"},        {ActivationKind::relu2, "relu2"},
               {ActivationKind::gelu, "gelu"},        {ActivationKind::gelu_tanh, "gelu_tanh"},
               {ActivationKind::silu, "silu"},        {ActivationKind::elu, "elu"},
               {ActivationKind::selu, "selu"},        {ActivationKind::softplus, "softplus"},
               {ActivationKind::sigmoid, "sigmoid"},  {ActivationKind::tanh, "tanh"},
               {ActivationKind::mish, "mish"},        {ActivationKind::softsign, "softsign"},
               {ActivationKind::identity, "identity"}};
  for (const auto& [kind, name_text] : kinds) {
    const std::string name = name_text;
    bench.run((name + " forward").c_str(), 2 * n, n,
              [&, k = kind] { activation_forward(k, gate_up.data(), n, y.data()); });
    bench.run((name + " backward").c_str(), 3 * n, n, [&, k = kind] {
      activation_backward(k, dy.data(), gate_up.data(), n, dx.data(), false);
    });
    bench.run((name + " glu forward").c_str(), 3 * n, n,
              [&, k = kind] { glu_forward(k, gate_up.data(), kRows, kF, 2 * kF, y.data()); });
    bench.run((name + " glu backward").c_str(), 5 * n, n, [&, k = kind] {
      glu_backward(k, dy.data(), gate_up.data(), kRows, kF, 2 * kF, dgate_up.data(), false);
    });
  }
}

void run_rope(Bench& bench) {
  constexpr int64_t n_heads = kC / kHeadDim;
  constexpr int64_t n = kRows * 2 * kC;  // q and k; v is passed over
  Floats qkv = values(kRows * 3 * kC), cos(kT * kHeadDim / 2), sin = cos;
  rope_table(10000.0, kHeadDim, kT, cos.data(), sin.data());
  for (const RopeLayout layout : {RopeLayout::half, RopeLayout::interleaved}) {
    bench.run(layout == RopeLayout::half ? "rope half" : "rope interleaved", 2 * n, n, [&] {
      rope_rotate(qkv.data(), kRows, kT, 0, 3 * kC, 2 * n_heads, kHeadDim, kHeadDim, layout,
                  cos.data(), sin.data(), false);
    });
  }
}

void run_embedding(Bench& bench) {
  constexpr int64_t n = kRows * kC;
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < kRows; ++i) tokens.push_back(static_cast<int32_t>(i * 7919 % kV));
  const Floats table = values(kV * kC), dy = values(n);
  Floats y(n), dtable(kV * kC), dpos(kT * kC);
  bench.run("embedding forward", 2 * n, n, [&] {
    embedding_forward<float>(tokens.data(), kRows, kC, table.data(), nullptr, kT, 0, 1.0F,
                             y.data());
  });
  bench.run("embedding backward", 3 * n + kV * kC, n, [&] {
    embedding_backward(dy.data(), tokens.data(), kRows, kC, kV, 1.0F, dtable.data(), false);
  });
  bench.run("position backward", n, n,
            [&] { position_backward(dy.data(), kRows / kT, kT, kC, dpos.data(), kT, false); });
}

void run_elementwise(Bench& bench) {
  constexpr int64_t n = kRows * kF;
  const Floats a = values(n), b = values(n);
  Floats out(n), sums(kF);
  std::vector<bf16> narrow(n);
  bench.run("add", 3 * n, n, [&] { add(a.data(), b.data(), n, out.data()); });
  bench.run("add_inplace", 3 * n, n, [&] { add_inplace(a.data(), n, out.data()); });
  bench.run("scale", 2 * n, n, [&] { scale(a.data(), 2.0F, n, out.data()); });
  bench.run("copy", 2 * n, n, [&] { copy(a.data(), n, out.data()); });
  bench.run("fill", n, n, [&] { fill(0.0F, n, out.data()); });
  bench.run("convert to bf16", n + n / 2, n, [&] { convert(a.data(), n, narrow.data()); });
  bench.run("convert from bf16", n + n / 2, n, [&] { convert(narrow.data(), n, out.data()); });
  bench.run("add_bias", 2 * n, n, [&] { add_bias(out.data(), kRows, kF, kF, a.data()); });
  bench.run("column_sum", n, n, [&] { column_sum(a.data(), kRows, kF, kF, sums.data(), false); });
  bench.run("dropout", 2 * n, n,
            [&] { dropout({.seed = 1, .rate = 0.1}, a.data(), kRows, kF, out.data(), false); });
}

void run_reductions(Bench& bench) {
  constexpr int64_t n = kRows * kF;
  const Floats x = values(n);
  double sink = 0.0;
  bench.run("sum_of_squares", n, n, [&] { sink += sum_of_squares(x.data(), n); });
  bench.run("max_abs", n, n, [&] { sink += static_cast<double>(max_abs(x.data(), n)); });
  bench.run("count_nonfinite", n, n,
            [&] { sink += static_cast<double>(count_nonfinite(x.data(), n)); });
  if (sink == 0.5) std::puts("");  // the sums are used
}

void run_loss(Bench& bench) {
  constexpr int64_t n = kLossRows * kV;
  Floats logits = values(n);
  const std::vector<int32_t> targets(kLossRows, 7);
  std::vector<double> ce(kLossRows), lse(kLossRows);
  const struct {
    const char* name;
    LogitMap<float> map;
  } maps[] = {{"", {}}, {" scaled", {0.5F, 0.0F}}, {" capped", {1.0F, 30.0F}}};
  for (const auto& [name, map] : maps) {
    for (const bool with_gradient : {false, true}) {
      const std::string title =
          std::string("cross_entropy") + name + (with_gradient ? " with gradient" : "");
      bench.run(title.c_str(), 2 * n, n, [&, m = map] {
        cross_entropy_rows<float>(logits.data(), targets.data(), kLossRows, kV, 1e-4F, 1.0F,
                                  with_gradient, ce.data(), lse.data(), nullptr, m);
      });
    }
  }
}

template <class F>
void run_function(Bench& bench, const char* name, const Floats& x, Floats& y, F f) {
  constexpr int64_t kRepeats = 1000;
  const auto n = static_cast<int64_t>(x.size());
  bench.run(name, 2 * n * kRepeats, n * kRepeats, [&] {
    for (int64_t r = 0; r < kRepeats; ++r) {
#pragma omp simd
      for (size_t i = 0; i < x.size(); ++i) y[i] = f(x[i]);
      asm volatile("" : : "r"(y.data()) : "memory");  // each repetition counts
    }
  });
}

// In the first-level cache, on one thread.
void run_functions(Bench& bench) {
  const Floats x = values(2048);
  Floats y(2048);
  run_function(bench, "vec::exp", x, y, [](float v) { return vec::exp(v); });
  run_function(bench, "vec::log", x, y, [](float v) { return vec::log(v); });
  run_function(bench, "vec::expm1", x, y, [](float v) { return vec::expm1(v); });
  run_function(bench, "vec::softplus", x, y, [](float v) { return vec::softplus(v); });
  run_function(bench, "vec::tanh", x, y, [](float v) { return vec::tanh(v); });
  run_function(bench, "vec::erf", x, y, [](float v) { return vec::erf(v); });
  run_function(bench, "vec::sigmoid", x, y, [](float v) { return vec::sigmoid(v); });
}

}  // namespace
}  // namespace ballast

int main(int argc, char** argv) {
  using namespace ballast;
  if (argc > 1) set_n_threads(std::atoi(argv[1]));
  Bench bench(argc > 2 ? argv[2] : "");
  std::printf("threads %d, rows %lld, C %lld, F %lld, loss %lld x %lld\n", n_threads(),
              static_cast<long long>(kRows), static_cast<long long>(kC), static_cast<long long>(kF),
              static_cast<long long>(kLossRows), static_cast<long long>(kV));
  run_functions(bench);
  run_norms(bench);
  run_other_norms(bench);
  run_head_norms(bench);
  run_scaling(bench);
  run_activations(bench);
  run_rope(bench);
  run_embedding(bench);
  run_elementwise(bench);
  run_reductions(bench);
  run_loss(bench);
}
