#include "core/kernels/attention.h"

#include <algorithm>
#include <cstring>

#include "autograd/ops.h"
#include "core/random.h"

namespace ballast {

namespace {

struct CausalAttention final : Node {
  Var x, out;
  Tensor lse;
  AttentionOptions options;

  const char* name() const override { return "causal_attention"; }
  bool keeps_output() const override { return true; }

  void forward(Tape& tape) override {
    dispatch(tape.dtype(), [&]<class T>() {
      if (options.cache != nullptr && options.cache->length > 0) {
        forward_cached<T>(tape);
        return;
      }
      const T* rows = tape.value(x).data<T>();
      const AttentionShape shape = shape_of(tape);
      attention_forward<T>(shape, rows, rows + k_column(), rows + v_column(),
                           tape.value(out).data<T>(), lse.data<T>(), logits<T>(tape), dropout());
      if (options.cache != nullptr) store(*options.cache, rows, shape, 0, shape.Tq);
    });
  }

  void backward(Tape& tape) override {
    dispatch(tape.dtype(), [&]<class T>() {
      AttentionTableGradients<T> tables;
      if (const GradRef d = tape.grad(options.distance_bias)) {
        tables.distance_bias = d.data<T>();
        tables.adds_to_bias = d.accumulate;
      }
      if (const GradRef d = tape.grad(options.sink)) {
        tables.sink = d.data<T>();
        tables.adds_to_sink = d.accumulate;
      }
      T* drows = input_gradient<T>(tape);
      if (drows == nullptr && tables.distance_bias == nullptr && tables.sink == nullptr) return;
      // Nobody's need, but the kernel makes it on the way to the tables' gradients.
      if (drows == nullptr) drows = tape.saved(tape.value(x).size()).data<T>();
      const T* rows = tape.value(x).data<T>();
      attention_backward<T>(shape_of(tape), rows, rows + k_column(), rows + v_column(),
                            tape.value(out).data<T>(), lse.data<T>(),
                            tape.output_grad(out).data<T>(), drows, drows + k_column(),
                            drows + v_column(), logits<T>(tape), dropout(), tables);
    });
  }

 private:
  int64_t kv_width() const { return options.n_kv_heads * options.head_dim; }
  int64_t k_column() const { return options.n_heads * options.head_dim; }
  int64_t v_column() const { return k_column() + kv_width(); }
  int64_t width() const { return v_column() + kv_width(); }

  /// The kernel overwrites the columns of q, k and v: they have this one reader.
  template <class T>
  T* input_gradient(Tape& tape) {
    if (tape.value(x).shape.back() > width()) return tape.grad_columns(x, width()).data<T>();
    const GradRef d = tape.grad(x);
    check_internal(!d.accumulate, "q, k and v have another reader than attention");
    return d.data<T>();
  }

  /// Copies keys and values of the rows [begin, end) of this call to their places in the cache; of
  /// those that share a place, only the last.
  template <class T>
  void store(KvCache& cache, const T* rows, const AttentionShape& shape, int64_t begin,
             int64_t end) const {
    const int64_t capacity = cache.k.shape[0];
    const auto bytes = static_cast<size_t>(kv_width()) * sizeof(T);
    for (int64_t t = std::max(begin, end - capacity); t < end; ++t) {
      const int64_t place = (cache.length + t - begin) % capacity * kv_width();
      const T* row = rows + t * shape.k_stride;
      std::memcpy(cache.k.data<T>() + place, row + k_column(), bytes);
      std::memcpy(cache.v.data<T>() + place, row + v_column(), bytes);
    }
    cache.length += end - begin;
  }

  template <class T>
  void forward_cached(Tape& tape) const {
    KvCache& cache = *options.cache;
    const int64_t capacity = cache.k.shape[0];
    const T* rows = tape.value(x).data<T>();
    T* o = tape.value(out).data<T>();
    const AttentionShape of_x = shape_of(tape);
    // Where the ring wraps, a later row would overwrite what an earlier query still sees.
    const bool wraps = cache.length + of_x.Tq > capacity;
    const int64_t step = wraps ? 1 : of_x.Tq;
    for (int64_t t = 0; t < of_x.Tq; t += step) {
      AttentionShape shape = of_x;
      shape.Tq = step;
      shape.q_offset = cache.length;
      store(cache, rows, of_x, t, t + step);
      shape.Tk = cache.length;
      shape.k_stride = shape.v_stride = kv_width();
      if (wraps) shape.ring = capacity;
      attention_forward<T>(shape, rows + t * of_x.q_stride, cache.k.data<T>(), cache.v.data<T>(),
                           o + t * of_x.o_stride, lse.data<T>(), logits<T>(tape));
    }
  }

  AttentionShape shape_of(const Tape& tape) const {
    const Shape& in = tape.value(x).shape;
    AttentionShape s;
    s.B = in[0];
    s.Tq = s.Tk = in[1];
    s.H = options.n_heads;
    s.K = options.n_kv_heads;
    s.hd = options.head_dim;
    s.scale = options.scale;
    s.q_stride = s.k_stride = s.v_stride = in[2];
    s.o_stride = k_column();
    s.window = options.window;
    s.local = options.local;
    return s;
  }

  template <class T>
  AttentionLogits<T> logits(const Tape& tape) const {
    AttentionLogits<T> l;
    l.softcap = options.softcap;
    if (options.distance_bias.defined()) {
      const Tensor bias = tape.value(options.distance_bias);
      l.distance_bias = bias.data<T>();
      l.n_distances = bias.shape[1];
    }
    l.bias_before_cap = options.bias_before_cap;
    l.has_sink = options.has_sink;
    if (options.sink.defined()) l.sink = tape.value(options.sink).data<T>();
    return l;
  }

  AttentionDropout dropout() const {
    const DropoutKey& d = options.dropout;
    return {d.rate, mix64(d.seed ^ mix64(static_cast<uint64_t>(d.step) ^ mix64(d.site))),
            d.first_row};
  }
};

void check_tables(const Tape& tape, const AttentionOptions& options) {
  const int64_t h = options.n_heads;
  if (options.distance_bias.defined()) {
    const Shape& bias = tape.value(options.distance_bias).shape;
    check(bias.rank() == 2 && bias[0] == h, "[causal_attention] distance_bias is ", bias,
          "; expected (", h, ", distances)");
  }
  if (options.sink.defined()) {
    const Shape& sink = tape.value(options.sink).shape;
    check(options.has_sink, "[causal_attention] a sink is given but has_sink is false");
    check(sink.size() == h, "[causal_attention] sink is ", sink, "; expected (", h, ")");
  }
}

void check_cache(const Tape& tape, const AttentionOptions& options, const Shape& in) {
  const KvCache& cache = *options.cache;
  const int64_t capacity = cache.k.shape[0];
  const int64_t end = cache.length + in[1];
  check(!tape.recording() && in[0] == 1 && options.dropout.rate == 0.0,
        "[causal_attention] a cache serves generation: one sequence, no recording, no dropout");
  check(end <= capacity || (options.window > 0 && options.window <= capacity),
        "[causal_attention] ", end, " positions do not fit into a cache of ", capacity,
        options.window > 0 ? ", which is shorter than the window" : "");
}

}  // namespace

Var causal_attention(Tape& tape, Var x, const AttentionOptions& options) {
  const Shape& in = tape.value(x).shape;
  const int64_t h = options.n_heads;
  const int64_t k = options.n_kv_heads;
  check(in.rank() == 3, "[causal_attention] x is ", in, "; expected (B, T, W)");
  check(h > 0 && k > 0 && h % k == 0, "[causal_attention] ", k, " key-value heads do not divide ",
        h, " heads");
  check(in[2] >= (h + 2 * k) * options.head_dim, "[causal_attention] x is ", in, " but ", h,
        " + 2*", k, " heads of ", options.head_dim, " channels need ",
        (h + 2 * k) * options.head_dim);
  check(options.dropout.rate >= 0.0 && options.dropout.rate < 1.0, "[causal_attention] dropout is ",
        options.dropout.rate, "; expected 0 <= rate < 1");
  check_tables(tape, options);
  if (options.cache != nullptr) check_cache(tape, options, in);
  auto& node = tape.make<CausalAttention>();
  node.x = x;
  node.options = options;
  node.lse = tape.saved(in[0] * h * in[1]);
  node.out = tape.output(node, Shape{in[0], in[1], h * options.head_dim},
                         {x, options.distance_bias, options.sink});
  tape.run(node);
  return node.out;
}

}  // namespace ballast
