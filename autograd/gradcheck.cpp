#include "autograd/gradcheck.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "core/random.h"

namespace ballast {

namespace {

struct Sample {
  int64_t entry;
  double analytic, numeric;
};

struct TensorResult {
  const Parameter* parameter;
  std::vector<Sample> samples;
  double largest_numeric = 0.0;
};

class LossFunction {
 public:
  explicit LossFunction(const std::function<Var(Tape&)>& loss) : loss_(loss) {
    tape_.set_recording(false);
  }

  double operator()() {
    tape_.reset();
    return *tape_.value(loss_(tape_)).data<double>();
  }

 private:
  const std::function<Var(Tape&)>& loss_;
  Tape tape_{Dtype::f64};
};

double central_difference(LossFunction& loss, double& x, double h) {
  const double x0 = x;
  x = x0 + h;
  const double above = loss();
  const double reached_above = x;
  x = x0 - h;
  const double below = loss();
  const double width = reached_above - x;
  x = x0;
  return (above - below) / width;
}

struct Difference {
  double value = 0.0;         // extrapolated to h = 0
  double disagreement = 0.0;  // of the estimates at h and h/2
  double h = 0.0;
};

// The pair of central differences with the smallest error: what they disagree by, and what the
// rounding of the loss does to both, which a small h magnifies and two estimates may share by
// chance. Others are tried until the error is `enough`.
Difference best_difference(LossFunction& loss, double& x, double loss_size, double enough) {
  Difference best;
  double smallest_error = std::numeric_limits<double>::infinity();
  for (const double step : {2e-4, 6e-5, 2e-5, 5e-4, 1e-3}) {
    const double h = step * std::max(1.0, std::abs(x));
    const double wide = central_difference(loss, x, h);
    const double narrow = central_difference(loss, x, h / 2);
    const double disagreement = std::abs(wide - narrow);
    const double rounding = 4.0 * std::numeric_limits<double>::epsilon() * loss_size / h;
    if (best.h != 0.0 && !(disagreement + rounding < smallest_error)) continue;
    smallest_error = disagreement + rounding;
    best = {(4.0 * narrow - wide) / 3.0, disagreement, h};
    if (smallest_error <= enough) break;
  }
  return best;
}

// The entries of a tensor in the order in which they are drawn.
std::vector<int64_t> shuffled_entries(int64_t n, uint64_t seed, uint64_t stream) {
  std::vector<int64_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), int64_t{0});
  RandomStream random(seed, stream);
  for (int64_t i = n - 1; i > 0; --i) {
    std::swap(order[static_cast<size_t>(i)],
              order[static_cast<size_t>(random.below(static_cast<uint64_t>(i) + 1))]);
  }
  return order;
}

}  // namespace

GradcheckReport gradcheck(ParameterStore& store, const std::function<Var(Tape&)>& loss,
                          const GradcheckOptions& options) {
  check(store.dtype() == Dtype::f64 && store.has_gradients(), "[gradcheck] the store holds ",
        name_of(store.dtype()), store.has_gradients() ? "" : " without gradients",
        "; expected f64 with gradients");
  store.begin_gradients();
  double loss_size = 0.0;
  {
    Tape tape(Dtype::f64);
    const Var total = loss(tape);
    loss_size = std::abs(*tape.value(total).data<double>());
    tape.backward(total);
  }
  store.finish_gradients();

  LossFunction value(loss);
  const auto largest = [](const Tensor& t) {
    const double* v = t.data<double>();
    double result = 0.0;
    for (int64_t i = 0; i < t.size(); ++i) result = std::max(result, std::abs(v[i]));
    return result;
  };
  double largest_gradient = 0.0;
  for (const Parameter& p : store.parameters()) {
    largest_gradient = std::max(largest_gradient, largest(p.grad));
  }
  GradcheckReport report;
  std::vector<TensorResult> results;
  double largest_of_all = 0.0;
  for (Parameter& p : store.parameters()) {
    TensorResult& result = results.emplace_back();
    result.parameter = &p;
    double* values = p.value.data<double>();
    const double* gradients = p.grad.data<double>();
    const double size = std::max(largest(p.grad), 0.01 * largest_gradient);
    const int64_t wanted = options.entries_per_tensor == 0
                               ? p.value.size()
                               : std::min(options.entries_per_tensor, p.value.size());
    std::vector<int64_t> order = shuffled_entries(p.value.size(), options.seed, hash_name(p.name));
    // The measure refers to the tensor's largest gradient: that entry is always among the checked.
    std::iter_swap(order.begin(), std::max_element(order.begin(), order.end(), [&](auto a, auto b) {
                     return std::abs(gradients[a]) < std::abs(gradients[b]);
                   }));
    for (const int64_t i : order) {
      if (static_cast<int64_t>(result.samples.size()) == wanted) break;
      const Difference difference = best_difference(value, values[i], loss_size, 2e-8 * size);
      const double numeric = difference.value;
      // Smooth functions agree far better than this; two sides of a kink do not.
      if (!(difference.disagreement <= 1e-5 * std::max(size, std::abs(numeric)))) {
        ++report.n_redrawn;
        continue;
      }
      result.samples.push_back({i, gradients[i], numeric});
      result.largest_numeric = std::max(result.largest_numeric, std::abs(numeric));
    }
    report.n_checked += static_cast<int64_t>(result.samples.size());
    largest_of_all = std::max(largest_of_all, result.largest_numeric);
  }

  for (const TensorResult& result : results) {
    const double scale = std::max(result.largest_numeric, 0.01 * largest_of_all);
    for (const Sample& s : result.samples) {
      const double difference = std::abs(s.analytic - s.numeric);
      double error = difference == 0.0 ? 0.0 : difference / scale;
      if (std::isnan(error)) error = std::numeric_limits<double>::infinity();
      if (error > report.error || report.tensor.empty()) {
        report.error = error;
        report.tensor = result.parameter->name;
        report.entry = s.entry;
        report.analytic = s.analytic;
        report.numeric = s.numeric;
      }
    }
  }
  const int64_t allowed = std::max<int64_t>(1, report.n_checked / 1000);
  report.passed =
      report.n_checked > 0 && report.error <= options.tolerance && report.n_redrawn <= allowed;
  return report;
}

}  // namespace ballast
