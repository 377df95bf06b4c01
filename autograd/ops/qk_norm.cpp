#include <algorithm>

#include "autograd/ops.h"
#include "core/kernels/head_norm.h"

namespace ballast {

namespace {

// One of q, k and v: its columns, and the parameters that every `period` columns share.
struct Part {
  const char* name = "";
  GainAndShift parameters;
  int64_t begin = 0;
  int64_t width = 0;
  int64_t period = 0;
};

struct QkNormNode final : Node {
  Var x, y;
  QkNormOptions options;
  std::array<Part, 3> parts;
  size_t n_parts = 2;
  HeadGroups groups;
  Tensor gain, shift;  // of every column: the kernel has no cases
  Tensor xhat, rstd;   // undefined: nobody differentiates
  Tensor dgain, dshift;

  const char* name() const override { return "qk_norm"; }

  void forward(Tape& tape) override {
    dispatch(tape.dtype(), [&]<class T>() {
      for (size_t i = 0; i < n_parts; ++i) {
        const Part& part = parts[i];
        const bool adds_one = options.unit_offset && part.parameters.weight.defined();
        expand<T>(tape, part.parameters.weight, part, adds_one ? T{1} : T{0}, T{1}, gain);
        expand<T>(tape, part.parameters.bias, part, T{0}, T{0}, shift);
      }
      // y holds x already: it took over its memory, or a copy of it.
      const Tensor& rows = tape.value(y);
      head_norm_forward(rows.data<T>(), rows.shape.rows(), rows.shape.back(), groups,
                        gain.data<T>(), shift.data<T>(), static_cast<T>(options.eps),
                        xhat.defined() ? xhat.data<T>() : nullptr,
                        rstd.defined() ? rstd.data<T>() : nullptr);
    });
  }

  void backward(Tape& tape) override {
    dispatch(tape.dtype(), [&]<class T>() {
      const Tensor dy = tape.exclusive_output_grad(y);
      head_norm_backward(dy.data<T>(), dy.shape.rows(), dy.shape.back(), groups, gain.data<T>(),
                         xhat.data<T>(), rstd.data<T>(), dgain.data<T>(), dshift.data<T>());
      for (size_t i = 0; i < n_parts; ++i) {
        fold<T>(tape, parts[i].parameters.weight, parts[i], dgain);
        fold<T>(tape, parts[i].parameters.bias, parts[i], dshift);
      }
    });
    tape.pass_grad(y, x);
  }

 private:
  template <class T>
  static void expand(Tape& tape, Var parameter, const Part& part, T offset, T missing,
                     const Tensor& row) {
    T* const out = row.data<T>() + part.begin;
    const T* const p = parameter.defined() ? tape.value(parameter).data<T>() : nullptr;
    for (int64_t c = 0; c < part.width; ++c) {
      out[c] = p != nullptr ? offset + p[c % part.period] : missing;
    }
  }

  // The transpose of expand().
  template <class T>
  static void fold(Tape& tape, Var parameter, const Part& part, const Tensor& row) {
    const GradRef d = tape.grad(parameter);
    if (!d) return;
    if (!d.accumulate) std::fill(d.data<T>(), d.data<T>() + part.period, T{0});
    const T* const in = row.data<T>() + part.begin;
    for (int64_t c = 0; c < part.width; ++c) d.data<T>()[c % part.period] += in[c];
  }
};

void check_parameter(Tape& tape, Var parameter, const Part& part, const char* what) {
  if (!parameter.defined()) return;
  check(tape.value(parameter).size() == part.period, "[qk_norm] the ", what, " of ", part.name,
        " has ", tape.value(parameter).size(), " elements; expected ", part.period);
}

void check_options(const Shape& in, const QkNormOptions& o, const std::array<Part, 3>& parts) {
  check(in.rank() == 3, "[qk_norm] qkv is ", in, "; expected (B, T, W)");
  check(o.n_heads > 0 && o.n_kv_heads > 0 && o.head_dim > 0 &&
            (o.n_heads + 2 * o.n_kv_heads) * o.head_dim <= in.back(),
        "[qk_norm] ", o.n_heads, " + 2 * ", o.n_kv_heads, " heads of ", o.head_dim,
        " channels do not fit into ", in);
  check(!(o.full && o.separate), "[qk_norm] full and separate exclude each other");
  for (const Part& part : parts) {
    check(o.is_centred || !part.parameters.bias.defined(), "[qk_norm] only LayerNorm has a shift");
  }
  const auto& [v_weight, v_bias] = parts[2].parameters;
  check(o.v || !(v_weight.defined() || v_bias.defined()),
        "[qk_norm] a gain or shift of v, which is not normalised");
}

}  // namespace

Var qk_norm(Tape& tape, Var qkv, const GainAndShift& q, const GainAndShift& k,
            const GainAndShift& v, const QkNormOptions& options) {
  const Shape in = tape.value(qkv).shape;
  const int64_t hd = options.head_dim;
  const auto part = [&](const char* name, const GainAndShift& parameters, int64_t begin,
                        int64_t heads) -> Part {
    const int64_t width = heads * hd;
    return {name, parameters, begin, width, options.full || options.separate ? width : hd};
  };
  const int64_t H = options.n_heads;
  const int64_t K = options.n_kv_heads;
  auto& node = tape.make<QkNormNode>();
  node.parts = {part("q", q, 0, H), part("k", k, H * hd, K), part("v", v, (H + K) * hd, K)};
  node.n_parts = options.v ? 3 : 2;
  check_options(in, options, node.parts);
  node.x = qkv;
  node.options = options;
  for (size_t i = 0; i < node.n_parts; ++i) {
    check_parameter(tape, node.parts[i].parameters.weight, node.parts[i], "gain");
    check_parameter(tape, node.parts[i].parameters.bias, node.parts[i], "shift");
  }

  const int64_t heads = H + (options.v ? 2 : 1) * K;
  const int64_t n_groups = options.full ? static_cast<int64_t>(node.n_parts) : heads;
  auto* bounds = tape.allocate_array<int64_t>(n_groups + 1);
  for (int64_t g = 0; g < n_groups; ++g) {
    bounds[g] = options.full ? node.parts[static_cast<size_t>(g)].begin : g * hd;
  }
  bounds[n_groups] = heads * hd;
  node.groups = {bounds, n_groups, options.is_centred};

  node.y =
      tape.output_in_place(node, qkv, {qkv, q.weight, q.bias, k.weight, k.bias, v.weight, v.bias});
  node.gain = tape.saved(heads * hd);
  node.shift = tape.saved(heads * hd);
  if (tape.needs_grad(node.y)) {
    node.xhat = tape.saved(in.rows() * heads * hd);
    node.rstd = tape.saved(in.rows() * n_groups);
    node.dgain = tape.saved(heads * hd);
    node.dshift = tape.saved(heads * hd);
  }
  tape.run(node);
  return node.y;
}

}  // namespace ballast
