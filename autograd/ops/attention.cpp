#include "core/kernels/attention.h"

#include <cstring>

#include "autograd/ops.h"
#include "core/random.h"

namespace ballast {

namespace {

struct CausalAttention final : Node {
  Var qkv, out;
  Tensor lse;
  AttentionOptions options;

  const char* name() const override { return "causal_attention"; }
  bool keeps_output() const override { return true; }

  void forward(Tape& tape) override {
    dispatch(tape.dtype(), [&]<class T>() {
      const T* rows = tape.value(qkv).data<T>();
      T* o = tape.value(out).data<T>();
      AttentionShape shape = shape_of(tape);
      if (options.cache == nullptr) {
        attention_forward<T>(shape, rows, rows + k_column(), rows + v_column(), o, lse.data<T>(),
                             dropout());
        return;
      }
      KvCache& cache = *options.cache;
      const int64_t width = options.n_kv_heads * options.head_dim;
      T* keys = cache.k.data<T>();
      T* values = cache.v.data<T>();
      for (int64_t t = 0; t < shape.Tq; ++t) {
        const T* row = rows + t * shape.q_stride;
        const auto bytes = static_cast<size_t>(width) * sizeof(T);
        std::memcpy(keys + (cache.length + t) * width, row + k_column(), bytes);
        std::memcpy(values + (cache.length + t) * width, row + v_column(), bytes);
      }
      shape.q_offset = cache.length;
      cache.length += shape.Tq;
      shape.Tk = cache.length;
      shape.k_stride = shape.v_stride = width;
      attention_forward<T>(shape, rows, keys, values, o, lse.data<T>(), dropout());
    });
  }

  void backward(Tape& tape) override {
    dispatch(tape.dtype(), [&]<class T>() {
      const T* rows = tape.value(qkv).data<T>();
      const GradRef d = tape.grad(qkv);
      if (!d) return;
      // The kernel overwrites; qkv has this one reader, so nothing can be there to add to.
      check_internal(!d.accumulate, "qkv has another reader than attention");
      T* drows = d.data<T>();
      attention_backward<T>(shape_of(tape), rows, rows + k_column(), rows + v_column(),
                            tape.value(out).data<T>(), lse.data<T>(),
                            tape.output_grad(out).data<T>(), drows, drows + k_column(),
                            drows + v_column(), dropout());
    });
  }

 private:
  int64_t k_column() const { return options.n_heads * options.head_dim; }
  int64_t v_column() const { return (options.n_heads + options.n_kv_heads) * options.head_dim; }

  AttentionShape shape_of(const Tape& tape) const {
    const Shape& in = tape.value(qkv).shape;
    AttentionShape s;
    s.B = in[0];
    s.Tq = s.Tk = in[1];
    s.H = options.n_heads;
    s.K = options.n_kv_heads;
    s.hd = options.head_dim;
    s.scale = options.scale;
    s.q_stride = s.k_stride = s.v_stride = in[2];
    s.o_stride = k_column();
    return s;
  }

  AttentionDropout dropout() const {
    const DropoutKey& d = options.dropout;
    return {d.rate, mix64(d.seed ^ mix64(static_cast<uint64_t>(d.step) ^ mix64(d.site))),
            d.first_row};
  }
};

}  // namespace

Var causal_attention(Tape& tape, Var qkv, const AttentionOptions& options) {
  const Shape& in = tape.value(qkv).shape;
  const int64_t h = options.n_heads;
  const int64_t k = options.n_kv_heads;
  check(in.rank() == 3, "[causal_attention] qkv is ", in, "; expected (B, T, W)");
  check(h > 0 && k > 0 && h % k == 0, "[causal_attention] ", k, " key-value heads do not divide ",
        h, " heads");
  check(in[2] == (h + 2 * k) * options.head_dim, "[causal_attention] qkv is ", in, " but ", h,
        " + 2*", k, " heads of ", options.head_dim, " channels need ",
        (h + 2 * k) * options.head_dim);
  check(options.dropout.rate >= 0.0 && options.dropout.rate < 1.0, "[causal_attention] dropout is ",
        options.dropout.rate, "; expected 0 <= rate < 1");
  if (const KvCache* cache = options.cache) {
    check(!tape.recording() && in[0] == 1,
          "[causal_attention] a cache serves generation: one sequence, no recording");
    check(cache->length + in[1] <= cache->k.shape[0], "[causal_attention] ", cache->length + in[1],
          " positions do not fit into a cache of ", cache->k.shape[0]);
  }
  auto& node = tape.make<CausalAttention>();
  node.qkv = qkv;
  node.options = options;
  node.lse = tape.saved(in[0] * h * in[1]);
  node.out = tape.output(node, Shape{in[0], in[1], h * options.head_dim}, {qkv});
  tape.run(node);
  return node.out;
}

}  // namespace ballast
