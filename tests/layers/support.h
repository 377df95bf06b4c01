// Small models and batches for tests.
#pragma once

#include <cstdint>
#include <vector>

#include "core/random.h"
#include "layers/init.h"
#include "layers/model.h"

namespace ballast::test {

inline constexpr int64_t kVocabulary = 19;

/// RMSNorm, SwiGLU, rope, grouped queries, no biases, untied.
inline ModelConfig llama_style() {
  ModelConfig c;
  c.d_model = 16;
  c.n_layers = 2;
  c.n_heads = 4;
  c.n_kv_heads = 2;
  c.vocab_size = kVocabulary;
  c.max_seq_len = 8;
  c.ffn.d_ff = 20;
  return c;
}

/// LayerNorm with shifts, GELU, learned positions, all biases, tied.
inline ModelConfig gpt2_style() {
  ModelConfig c;
  c.d_model = 12;
  c.n_layers = 2;
  c.n_heads = 3;
  c.vocab_size = kVocabulary;
  c.max_seq_len = 8;
  c.norm.kind = NormKind::layernorm;
  c.norm.bias = true;
  c.ffn.activation = ActivationKind::gelu_tanh;
  c.ffn.gated = false;
  c.position.kind = PositionKind::learned;
  c.bias = {.qkv = true, .attn_out = true, .ffn = true, .head = false};
  c.embedding.tie = true;
  return c;
}

struct TokenBatch {
  int64_t rows, length;
  std::vector<int32_t> tokens, targets;

  TokenView view() const { return {tokens.data(), rows, length}; }
  /// Some of the rows, as a micro-batch.
  TokenView view(int64_t begin, int64_t end) const {
    return {tokens.data() + begin * length, end - begin, length};
  }
  int64_t size() const { return rows * length; }
};

inline TokenBatch random_batch(int64_t rows, int64_t length, int64_t vocabulary, uint64_t seed) {
  TokenBatch batch{rows, length, {}, {}};
  RandomStream random(seed, 0);
  for (int64_t i = 0; i < rows * length; ++i) {
    batch.tokens.push_back(static_cast<int32_t>(random.below(static_cast<uint64_t>(vocabulary))));
    batch.targets.push_back(static_cast<int32_t>(random.below(static_cast<uint64_t>(vocabulary))));
  }
  return batch;
}

/// A model with its parameters, at values where no gradient vanishes by accident: larger than
/// initialisation makes them, gains and biases moved from their constants.
struct TestModel {
  ModelConfig config;
  ParameterStore store;
  Model model;

  TestModel(const ModelConfig& c, Dtype dtype, double std = 0.25) : config(c), model(c, store) {
    store.allocate(dtype);
    ModelConfig initial = c;
    initial.init.std = std;
    initial.init.depth_scale = false;
    initialise(initial, store, 1337);
    for (Parameter& p : store.parameters()) {
      RandomStream random(3, hash_name(p.name));
      dispatch(dtype, [&]<class T>() {
        for (int64_t i = 0; i < p.value.size(); ++i) {
          p.value.data<T>()[i] += static_cast<T>(0.1 * random.normal());
        }
      });
    }
  }
};

}  // namespace ballast::test
