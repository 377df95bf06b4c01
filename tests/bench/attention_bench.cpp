// Speed of the attention kernels: attention_bench [threads]. Training shapes in GFLOP/s, counting
// the causal half (forward 2 products, backward 5) and as a share of the fused multiply-add peak
// that the same threads reach; decoding in GB/s of k and v read; every mode as a ratio to plain
// attention, both measured in turns.
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "core/kernels/attention.h"
#include "core/kernels/tile.h"
#include "core/parallel.h"

namespace ballast {
namespace {

// One thread is timed by the processor time it got, so that a busy machine disturbs it less.
double now() {
  timespec t{};
  clock_gettime(n_threads() == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

template <class F>
double best_seconds(int repeats, F&& fn) {
  double best = 1e30;
  for (int r = 0; r < repeats; ++r) {
    const double start = now();
    fn();
    best = std::min(best, now() - start);
  }
  return best;
}

std::vector<float> values(int64_t n) {
  std::vector<float> x(static_cast<size_t>(n));
  uint32_t state = 1;
  for (float& value : x) {
    state = state * 1664525U + 1013904223U;
    value = static_cast<float>(state >> 8) * 0x1p-23F - 1.0F;
  }
  return x;
}

double peak_gflops() {
  constexpr int64_t kSteps = 200000;
  const double seconds = best_seconds(8, [] {
    parallel_tasks(n_threads(), [](int64_t) {
      using S = tile::Simd<float>;
      S::Vec sum[12];
      for (auto& s : sum) s = S::broadcast(0.5F);
      S::Vec factor = S::broadcast(0.9999F);
      for (int64_t i = 0; i < kSteps; ++i) {
#pragma GCC unroll 12
        for (auto& s : sum) s = s * factor + factor;
        asm volatile("" : "+x"(factor));
      }
      for (auto& s : sum) asm volatile("" : "+x"(s));
    });
  });
  return static_cast<double>(n_threads()) * static_cast<double>(kSteps) * 12.0 * 2.0 *
         static_cast<double>(tile::Simd<float>::kLanes) / seconds * 1e-9;
}

void train(int64_t B, int64_t T, int64_t H, int64_t K, int64_t hd, double rate, double peak) {
  const int64_t columns = (H + 2 * K) * hd;
  const auto qkv = values(B * T * columns);
  const auto dout = values(B * T * H * hd);
  std::vector<float> out(dout.size()), dqkv(qkv.size());
  std::vector<float> lse(static_cast<size_t>(B * H * T));
  AttentionShape shape;
  shape.B = B;
  shape.Tq = shape.Tk = T;
  shape.H = H;
  shape.K = K;
  shape.hd = hd;
  shape.scale = 0.125;
  shape.q_stride = shape.k_stride = shape.v_stride = columns;
  shape.o_stride = H * hd;
  const AttentionDropout dropout{rate, 1, 0};
  const int64_t k = H * hd;
  const int64_t v = (H + K) * hd;
  const double forward = best_seconds(12, [&] {
    attention_forward(shape, qkv.data(), qkv.data() + k, qkv.data() + v, out.data(), lse.data(), {},
                      dropout);
  });
  const double backward = best_seconds(12, [&] {
    attention_backward(shape, qkv.data(), qkv.data() + k, qkv.data() + v, out.data(), lse.data(),
                       dout.data(), dqkv.data(), dqkv.data() + k, dqkv.data() + v, {}, dropout);
  });
  const double flops = 2.0 * static_cast<double>(B * H * T * T * hd) * 1e-9;
  std::printf(
      "T %5ld B %3ld H %3ld K %3ld hd %3ld dropout %.1f   forward %6.1f GFLOP/s %3.0f %%   "
      "backward %6.1f GFLOP/s %3.0f %%   %.2f + %.2f ms\n",
      T, B, H, K, hd, rate, flops / forward, 100.0 * flops / forward / peak, 2.5 * flops / backward,
      250.0 * flops / backward / peak, forward * 1e3, backward * 1e3);
}

void decode(int64_t B, int64_t keys, int64_t H, int64_t K, int64_t hd) {
  const auto q = values(B * H * hd);
  const auto k = values(B * keys * K * hd);
  const auto v = values(B * keys * K * hd);
  std::vector<float> out(q.size());
  std::vector<float> lse(static_cast<size_t>(B * H));
  AttentionShape shape;
  shape.B = B;
  shape.Tk = keys;
  shape.q_offset = keys - 1;
  shape.H = H;
  shape.K = K;
  shape.hd = hd;
  shape.scale = 0.125;
  shape.q_stride = shape.o_stride = H * hd;
  shape.k_stride = shape.v_stride = K * hd;
  const double seconds = best_seconds(
      200, [&] { attention_forward(shape, q.data(), k.data(), v.data(), out.data(), lse.data()); });
  std::printf("decode B %3ld Tk %5ld H %3ld K %3ld hd %3ld   %6.1f GB/s   %.1f us\n", B, keys, H, K,
              hd, 8.0 * static_cast<double>(B * keys * K * hd) / seconds * 1e-9, seconds * 1e6);
}

struct Mode {
  const char* name;
  double softcap = 0.0;
  bool has_bias = false, learns_bias = false;
  int64_t window = 0;
  LocalKind local = LocalKind::window;
  bool has_sink = false;
};

// One attention call, forward and backward.
class Training {
 public:
  Training(int64_t B, int64_t T, int64_t H, int64_t hd, const Mode& mode) : mode_(mode) {
    shape_.B = B;
    shape_.Tq = shape_.Tk = T;
    shape_.H = shape_.K = H;
    shape_.hd = hd;
    shape_.scale = 0.125;
    shape_.q_stride = shape_.k_stride = shape_.v_stride = 3 * H * hd;
    shape_.o_stride = H * hd;
    shape_.window = mode.window;
    shape_.local = mode.local;
    qkv_ = values(B * T * 3 * H * hd);
    dout_ = values(B * T * H * hd);
    bias_ = values(H * T);
    sink_ = values(H);
    out_.resize(dout_.size());
    dqkv_.resize(qkv_.size());
    lse_.resize(static_cast<size_t>(B * H * T));
    dbias_.resize(bias_.size());
    dsink_.resize(sink_.size());
  }

  void forward() {
    attention_forward(shape_, q(qkv_), k(qkv_), v(qkv_), out_.data(), lse_.data(), logits());
  }
  void backward() {
    AttentionTableGradients<float> tables;
    if (mode_.learns_bias) tables.distance_bias = dbias_.data();
    if (mode_.has_sink) tables.sink = dsink_.data();
    attention_backward(shape_, q(qkv_), k(qkv_), v(qkv_), out_.data(), lse_.data(), dout_.data(),
                       q(dqkv_), k(dqkv_), v(dqkv_), logits(), {}, tables);
  }

 private:
  AttentionLogits<float> logits() const {
    AttentionLogits<float> l;
    l.softcap = mode_.softcap;
    if (mode_.has_bias) l.distance_bias = bias_.data();
    l.n_distances = shape_.Tk;
    l.has_sink = mode_.has_sink;
    if (mode_.has_sink) l.sink = sink_.data();
    return l;
  }
  static float* q(std::vector<float>& x) { return x.data(); }
  float* k(std::vector<float>& x) const { return x.data() + shape_.H * shape_.hd; }
  float* v(std::vector<float>& x) const { return x.data() + 2 * shape_.H * shape_.hd; }

  Mode mode_;
  AttentionShape shape_;
  std::vector<float> qkv_, dout_, bias_, sink_, out_, dqkv_, lse_, dbias_, dsink_;
};

void modes(int64_t B, int64_t T, int64_t H, int64_t hd, const std::vector<Mode>& all) {
  std::vector<Training> calls;
  for (const Mode& mode : all) calls.emplace_back(B, T, H, hd, mode);
  std::vector<double> forward(all.size(), 1e30), backward = forward;
  for (int round = 0; round < 12; ++round) {
    for (size_t i = 0; i < all.size(); ++i) {
      forward[i] = std::min(forward[i], best_seconds(1, [&] { calls[i].forward(); }));
      backward[i] = std::min(backward[i], best_seconds(1, [&] { calls[i].backward(); }));
    }
  }
  for (size_t i = 0; i < all.size(); ++i) {
    std::printf(
        "T %5ld B %3ld H %3ld hd %3ld %-16s forward %6.2f ms x %.2f   "
        "backward %6.2f ms x %.2f   together x %.2f\n",
        T, B, H, hd, all[i].name, forward[i] * 1e3, forward[i] / forward[0], backward[i] * 1e3,
        backward[i] / backward[0], (forward[i] + backward[i]) / (forward[0] + backward[0]));
  }
}

void run() {
  const double peak = peak_gflops();
  std::printf("%d threads, peak %.1f GFLOP/s\n", n_threads(), peak);
  train(16, 256, 4, 4, 64, 0.0, peak);
  train(8, 512, 8, 8, 64, 0.0, peak);
  train(4, 1024, 12, 12, 64, 0.0, peak);
  train(8, 512, 8, 2, 64, 0.0, peak);
  train(8, 512, 8, 8, 128, 0.0, peak);
  train(8, 512, 8, 8, 80, 0.0, peak);
  train(8, 512, 8, 8, 32, 0.0, peak);
  train(1, 512, 2, 2, 64, 0.0, peak);
  train(8, 512, 8, 8, 64, 0.1, peak);
  const Mode plain{"plain"};
  modes(4, 512, 8, 64,
        {plain,
         {"softcap", 50.0},
         {"alibi", 0.0, true},
         {"t5 bias", 0.0, true, true},
         {"softcap, t5 bias", 50.0, true, true},
         {"sink", 0.0, false, false, 0, LocalKind::window, true},
         {"window 128", 0.0, false, false, 128},
         {"chunk 128", 0.0, false, false, 128, LocalKind::chunk}});
  modes(2, 1024, 8, 64,
        {plain,
         {"window 128", 0.0, false, false, 128},
         {"window 512", 0.0, false, false, 512},
         {"chunk 128", 0.0, false, false, 128, LocalKind::chunk}});
  decode(1, 2048, 8, 8, 64);
  decode(1, 2048, 8, 2, 64);
  decode(1, 2048, 8, 1, 64);
  decode(16, 2048, 8, 8, 64);
}

}  // namespace
}  // namespace ballast

int main(int argc, char** argv) {
  if (argc > 1) ballast::set_n_threads(std::atoi(argv[1]));
  ballast::run();
}
