#include <algorithm>
#include <limits>

#include "autograd/ops.h"
#include "core/kernels/cross_entropy.h"
#include "core/kernels/elementwise.h"
#include "core/matmul.h"
#include "core/scratch.h"

namespace ballast {

namespace {

// Rows whose logits exist at a time: enough for efficient products, few enough to stay in cache.
constexpr int64_t kChunkBytes = int64_t{8} << 20;
constexpr int64_t kFewestRows = 128;

struct LmHeadLoss final : Node {
  Var h, weight, bias, total;
  const int32_t* targets = nullptr;
  LossOptions options;
  LossStats* stats = nullptr;
  double* row_ce = nullptr;  // per row: cross-entropy, logsumexp, largest logit
  double* row_lse = nullptr;
  Tensor row_max;
  BufferPool::Handle dh = BufferPool::kNone;
  bool is_differentiated = false;

  const char* name() const override { return "lm_head_loss"; }

  void forward(Tape& tape) override {
    dispatch(tape.dtype(), [&]<class T>() { run<T>(tape); });
  }

  void backward(Tape& tape) override {
    // The gradients of weight and bias are in their slabs already: it is too late to scale them.
    const double seed = dispatch(tape.dtype(), [&]<class T>() {
      return static_cast<double>(*tape.output_grad(total).data<T>());
    });
    check(seed == 1.0, "[lm_head_loss] is differentiated with weight ", seed, "; expected 1");
    check(!is_differentiated, "[lm_head_loss] is differentiated twice; record it again");
    is_differentiated = true;
    if (dh != BufferPool::kNone) tape.give_grad(dh, h);
    dh = BufferPool::kNone;
  }

 private:
  template <class T>
  void run(Tape& tape) {
    const Tensor& hidden = tape.value(h);
    const Tensor& w = tape.value(weight);
    const int64_t rows = hidden.shape.rows();
    const int64_t c = hidden.shape.back();
    const int64_t v = w.shape[0];
    const int64_t chunk = std::clamp<int64_t>(kChunkBytes / (v * static_cast<int64_t>(sizeof(T))),
                                              std::min(rows, kFewestRows), rows);
    T* logits = scratch<T>(ScratchSlot::node, chunk * v);
    const T* b = bias.defined() ? tape.value(bias).data<T>() : nullptr;
    T* dhidden = nullptr;
    if (tape.needs_grad(h)) {
      dh = tape.acquire_grad(hidden.shape);
      dhidden = tape.grad_tensor(dh, hidden.shape).data<T>();
    }
    const bool with_gradient = tape.needs_grad(total);
    const T scale = static_cast<T>(1.0 / static_cast<double>(options.denominator));

    for (int64_t begin = 0; begin < rows; begin += chunk) {
      const int64_t n = std::min(chunk, rows - begin);
      const T* x = hidden.data<T>() + begin * c;
      matmul<T>(n, v, c, {x, c}, {w.data<T>(), c, true}, false, {logits, v}, b);
      cross_entropy_rows(logits, targets + begin, n, v, static_cast<T>(options.z_loss), scale,
                         with_gradient, row_ce + begin, row_lse + begin, row_max.data<T>() + begin,
                         {static_cast<T>(options.logit_scale), static_cast<T>(options.softcap)});
      if (!with_gradient) continue;
      // From here on the chunk holds dL/dlogits.
      if (dhidden != nullptr) {
        matmul<T>(n, c, v, {logits, v}, {w.data<T>(), c}, false, {dhidden + begin * c, c});
      }
      if (const GradRef dw = tape.grad(weight)) {
        matmul<T>(v, c, n, {logits, v, true}, {x, c}, dw.accumulate, {dw.data<T>(), c});
      }
      if (const GradRef db = tape.grad(bias))
        column_sum(logits, n, v, v, db.data<T>(), db.accumulate);
    }
    *stats = sum_rows(rows, row_max.data<T>());
    *tape.value(total).data<T>() = static_cast<T>(stats->ce + stats->z);
  }

  template <class T>
  LossStats sum_rows(int64_t rows, const T* maxima) const {
    LossStats s;
    s.max_logit = -std::numeric_limits<double>::infinity();
    const LossSums sums = sum_loss_rows(targets, row_ce, row_lse, rows);
    for (int64_t i = 0; i < rows; ++i) {
      // A NaN must not be swallowed by the comparison.
      const auto max = static_cast<double>(maxima[i]);
      if (targets[i] >= 0 && !(max <= s.max_logit)) s.max_logit = max;
    }
    const auto denominator = static_cast<double>(options.denominator);
    s.ce = sums.ce / denominator;
    s.z = options.z_loss * sums.z / denominator;
    s.lse_mean = sums.count > 0 ? sums.lse / static_cast<double>(sums.count) : 0.0;
    s.n_targets = sums.count;
    return s;
  }
};

}  // namespace

LmLoss lm_head_loss(Tape& tape, Var h, Var weight, Var bias, const int32_t* targets,
                    const LossOptions& options) {
  const Shape& in = tape.value(h).shape;
  const Shape& w = tape.value(weight).shape;
  check(w.rank() == 2 && in.back() == w[1], "[lm_head_loss] h is ", in, " but weight is ", w);
  check(!bias.defined() || tape.value(bias).shape == Shape{w[0]},
        "[lm_head_loss] bias does not fit weight ", w);
  check(options.denominator > 0, "[lm_head_loss] denominator is ", options.denominator,
        "; expected at least 1");
  check(options.softcap >= 0.0, "[lm_head_loss] softcap is ", options.softcap,
        "; expected above 0, or 0 for none");
  const int64_t rows = in.rows();
  for (int64_t i = 0; i < rows; ++i) {
    check(targets[i] >= -1 && targets[i] < w[0], "[lm_head_loss] target ", targets[i], " at row ",
          i, "; expected -1 (ignored) or 0 <= target < ", w[0]);
  }
  auto& node = tape.make<LmHeadLoss>();
  node.h = h;
  node.weight = weight;
  node.bias = bias;
  node.targets = targets;
  node.options = options;
  node.stats = tape.allocate_array<LossStats>(1);
  node.row_ce = options.row_ce != nullptr ? options.row_ce : tape.allocate_array<double>(rows);
  node.row_lse = tape.allocate_array<double>(rows);
  node.row_max = tape.saved(rows);
  node.total = tape.output(node, Shape{1}, {h, weight, bias});
  tape.run(node);
  return {node.total, node.stats};
}

}  // namespace ballast
