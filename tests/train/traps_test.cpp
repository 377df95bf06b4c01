// Mistakes that other implementations of these architectures made, each as a claim about ours.
#include <algorithm>
#include <cmath>
#include <map>

#include "layers/presets.h"
#include "optim/optimizer.h"
#include "tests/layers/support.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"
#include "train/config/run_config.h"

namespace ballast::test {

namespace {

RunConfig of_preset(const std::string& preset, const std::string& model_keys = "") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "c.yaml";
  put_contents(path, concat("data: {source: synthetic, synthetic: {corpus: uniform}, seq_len: 8}\n",
                            "model: {preset: ", preset,
                            ", d_model: 32, n_layers: 12, n_heads: 4, vocab_size: 19", model_keys,
                            "}\ntrain: {steps: 1}\n"));
  return load_config(path);
}

std::vector<double> logits(TestModel& m, const TokenBatch& batch) {
  Tape tape(Dtype::f64);
  tape.set_recording(false);
  const Tensor y = tape.value(m.model.logits(tape, batch.view(), {}));
  return {y.data<double>(), y.data<double>() + y.size()};
}

std::vector<double> logits(const ModelConfig& config) {
  TestModel m(config, Dtype::f64);
  return logits(m, random_batch(2, 7, *config.vocab_size, 5));
}

double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
  REQUIRE(a.size() == b.size());
  double worst = 0.0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(a[i] - b[i]);
    if (!(difference <= worst)) worst = difference;  // a NaN stays
    if (std::isnan(worst)) break;
  }
  return worst;
}

std::vector<int64_t> layers_with(const ModelConfig& c, bool (ModelConfig::*holds)(int64_t) const) {
  std::vector<int64_t> layers;
  for (int64_t i = 0; i < c.n_layers; ++i) {
    if ((c.*holds)(i)) layers.push_back(i);
  }
  return layers;
}

}  // namespace

TEST_CASE("presets have the checkpoints' eps, not the defaults of a library's classes",
          "[train][traps]") {
  CHECK(of_preset("llama2").model.norm.eps == 1e-5);
  CHECK(of_preset("llama3").model.norm.eps == 1e-5);
  CHECK(of_preset("mistral").model.norm.eps == 1e-5);
  CHECK(of_preset("olmo2").model.norm.eps == 1e-6);
  CHECK(of_preset("gemma").model.norm.eps == 1e-6);
}

TEST_CASE("no_rope_layers 1 means that the layer rotates: every fourth layer has no positions",
          "[train][traps]") {
  const std::vector<int64_t> expected = {0, 1, 2, 4, 5, 6, 8, 9, 10};
  CHECK(layers_with(of_preset("smollm3").model, &ModelConfig::has_rope) == expected);
  CHECK(layers_with(of_preset("llama4").model, &ModelConfig::has_rope) == expected);
  CHECK(layers_with(of_preset("command_a").model, &ModelConfig::has_rope) == expected);
}

TEST_CASE("GPT-J's and NeoX's rope differ in the order of channels alone", "[train][traps]") {
  ModelConfig c = llama_style();
  c.position.layout = RopeLayout::interleaved;
  TestModel interleaved(c, Dtype::f64);
  c.position.layout = RopeLayout::half;
  TestModel half(c, Dtype::f64);
  const TokenBatch batch = random_batch(2, 7, kVocabulary, 5);
  const std::vector<double> expected = logits(interleaved, batch);
  CHECK(largest_difference(logits(half, batch), expected) > 1e-3);
  // Row 2i of a head's projection becomes row i, row 2i + 1 row i + d/2.
  const int64_t hd = c.head_size();
  for (Parameter& p : half.store.parameters()) {
    if (p.name.find("attn.wq.weight") == std::string::npos &&
        p.name.find("attn.wk.weight") == std::string::npos) {
      continue;
    }
    const double* from = interleaved.store.find(p.name)->value.data<double>();
    for (int64_t row = 0; row < p.shape[0]; ++row) {
      const int64_t channel = row % hd;
      const int64_t source =
          row - channel + (channel < hd / 2 ? 2 * channel : 2 * (channel - hd / 2) + 1);
      std::copy_n(from + source * c.d_model, c.d_model, p.value.data<double>() + row * c.d_model);
    }
  }
  CHECK(largest_difference(logits(half, batch), expected) < 1e-12);
}

TEST_CASE("Gemma's gain is 1 + w, and w starts at 0", "[train][traps]") {
  ModelConfig c = llama_style();
  TestModel plain(c, Dtype::f64);
  c.norm.unit_offset = true;
  TestModel offset(c, Dtype::f64);
  initialise(c, offset.store, 1);
  CHECK(offset.store.find("final_norm.weight")->value.data<double>()[0] == 0.0);
  for (Parameter& p : offset.store.parameters()) {
    const double* from = plain.store.find(p.name)->value.data<double>();
    const double shift = p.role == Role::offset ? 1.0 : 0.0;
    for (int64_t i = 0; i < p.value.size(); ++i) p.value.data<double>()[i] = from[i] - shift;
  }
  const TokenBatch batch = random_batch(2, 7, kVocabulary, 5);
  CHECK(largest_difference(logits(offset, batch), logits(plain, batch)) < 1e-12);
  CHECK(of_preset("gemma").model.norm.unit_offset);
  CHECK(of_preset("gemma2").model.norm.unit_offset);
  CHECK(of_preset("gemma3").model.norm.unit_offset);
}

TEST_CASE("Gemma 2's even layers are local, Gemma 3's every sixth is global", "[train][traps]") {
  CHECK(layers_with(of_preset("gemma2").model, &ModelConfig::is_local) ==
        std::vector<int64_t>{0, 2, 4, 6, 8, 10});
  CHECK(layers_with(of_preset("gemma3").model, &ModelConfig::is_local) ==
        std::vector<int64_t>{0, 1, 2, 3, 4, 6, 7, 8, 9, 10});
  // The two thetas of Gemma 3.
  CHECK(of_preset("gemma3").model.position.theta_local == 1e4);
  CHECK(of_preset("gemma3").model.position.theta == 1e6);
  ModelConfig c = llama_style();
  c.attention.pattern = {LayerKind::local, LayerKind::full};
  const std::vector<double> one = logits(c);
  c.position.theta_local = 10.0;
  const std::vector<double> two = logits(c);
  CHECK(largest_difference(two, one) > 1e-4);
  c.attention.pattern = {LayerKind::full};
  CHECK(logits(c) == one);
}

TEST_CASE("Llama 4 normalises queries and keys after the rotation, where there is one",
          "[train][traps]") {
  const ModelConfig llama4 = of_preset("llama4").model;
  CHECK(llama4.attention.qk_norm == QkNorm::l2);
  CHECK(llama4.attention.qk_norm_after_rope);
  CHECK(llama4.has_qk_norm(0));
  CHECK_FALSE(llama4.has_qk_norm(3));
  // A gain per channel sees the difference; the norm itself does not.
  ModelConfig c = llama_style();
  c.attention.qk_norm = QkNorm::per_head;
  const std::vector<double> before = logits(c);
  c.attention.qk_norm_after_rope = true;
  CHECK(largest_difference(logits(c), before) > 1e-3);
  c.attention.qk_norm = QkNorm::l2;
  const std::vector<double> after = logits(c);
  c.attention.qk_norm_after_rope = false;
  CHECK(largest_difference(logits(c), after) < 1e-12);
}

TEST_CASE("Falcon-RW's ALiBi is multiplied by the scale as well", "[train][traps]") {
  ModelConfig c = llama_style();
  c.position.kind = PositionKind::alibi;
  c.position.alibi_scaled = true;
  const std::vector<double> scaled = logits(c);
  c.position.alibi_scaled = false;
  CHECK(largest_difference(logits(c), scaled) > 1e-3);
  c.attention.scale = 1.0;  // then there is no difference
  const std::vector<double> unscaled = logits(c);
  c.position.alibi_scaled = true;
  CHECK(largest_difference(logits(c), unscaled) < 1e-12);
}

TEST_CASE("T5 does not divide by sqrt(head_dim), and scales its tied head by 1/sqrt(d)",
          "[train][traps]") {
  const ModelConfig t5 = of_preset("t5").model;
  CHECK(t5.attention_scale() == 1.0);
  CHECK(t5.embedding.tie);
  CHECK(t5.head_scale() == Approx(1.0 / std::sqrt(32.0)).epsilon(1e-15));
  // One table for all layers.
  ParameterStore store;
  const Model model(t5, store);
  CHECK(std::count_if(store.parameters().begin(), store.parameters().end(), [](const auto& p) {
          return p.name.find("t5_bias") != std::string::npos;
        }) == 1);
}

TEST_CASE("OLMo 2's QK-norm spans all heads, Qwen 3's does not", "[train][traps]") {
  const auto shape_of = [](const char* preset) {
    ParameterStore store;
    const Model model(of_preset(preset, ", head_dim: 8").model, store);
    return store.find("blocks.0.attn.q_norm.weight")->shape;
  };
  CHECK(shape_of("olmo2") == Shape{32});
  CHECK(shape_of("qwen3") == Shape{8});
  // All heads share one mean square: scaling one head changes the others' queries.
  ModelConfig c = llama_style();
  c.attention.qk_norm = QkNorm::full;
  const std::vector<double> full = logits(c);
  c.attention.qk_norm = QkNorm::per_head;
  CHECK(largest_difference(logits(c), full) > 1e-3);
}

TEST_CASE("GPT-J and Phi keep a bias in the head", "[train][traps]") {
  CHECK(of_preset("gptj").model.bias.head);
  CHECK(of_preset("phi2", ", head_dim: 10").model.bias.head);
  CHECK_FALSE(of_preset("gpt2").model.bias.head);
  ModelConfig c = llama_style();
  c.bias.head = c.embedding.tie = true;
  ParameterStore store;
  const Model model(c, store);
  CHECK(store.find("head.weight") == nullptr);
  CHECK(store.find("head.bias") != nullptr);
}

TEST_CASE("depth scaling divides wo and w_down by sqrt(2 n_layers), in every topology",
          "[train][traps]") {
  for (const auto& topology : variant_rows<BlockTopology>()) {
    ModelConfig c = llama_style();
    c.n_layers = 8;
    c.block.topology = topology.kind;
    ParameterStore store;
    const Model model(c, store);
    for (const Parameter& p : store.parameters()) {
      if (p.role != Role::linear) continue;
      const bool is_end =
          p.name.find(".wo.") != std::string::npos || p.name.find(".w_down.") != std::string::npos;
      CAPTURE(topology.name, p.name);
      CHECK(initial_std(c, p) == Approx(is_end ? 0.02 / 4.0 : 0.02).epsilon(1e-14));
    }
  }
}

TEST_CASE("what a model does depends on its keys, never on its preset's name", "[train][traps]") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "c.yaml";
  for (const Preset& preset : presets()) {
    CAPTURE(preset.name);
    // 10 channels: 0.4 of them are an even number, as Phi needs.
    const std::string head = preset.name == "phi2" ? ", head_dim: 10" : "";
    RunConfig named = of_preset(std::string(preset.name), head);
    named.model.dropout = {};
    const std::vector<double> expected = logits(named.model);
    RunConfig nameless = named;
    nameless.preset.clear();
    put_contents(path, dump_config(nameless));
    const RunConfig loaded = load_config(path);
    CHECK(loaded.preset.empty());
    CHECK(logits(loaded.model) == expected);
  }
}

TEST_CASE("norms and biases do not decay unasked, embeddings do unless they are named",
          "[train][traps]") {
  ModelConfig c = llama_style();
  c.bias.qkv = true;
  c.position.kind = PositionKind::t5;
  c.attention.sink = SinkKind::learned;
  c.block.layer_scale = 0.5;
  const auto changed = [&](const std::vector<DecayGroup>& no_decay) {
    TestModel m(c, Dtype::f64);
    OptimConfig optim;
    optim.weight_decay = 0.5;
    optim.no_decay = no_decay;
    m.store.begin_gradients();
    m.store.finish_gradients();  // all zero: only decay moves a weight
    std::map<std::string, double> before;
    for (const Parameter& p : m.store.parameters()) before[p.name] = p.value.data<double>()[0];
    make_optimizer(optim, m.store)->step(0.1);
    std::map<std::string, bool> moved;
    for (const Parameter& p : m.store.parameters()) {
      moved[p.name] = p.value.data<double>()[0] != before[p.name];
    }
    return moved;
  };
  const auto moved = changed(OptimConfig{}.no_decay);
  CHECK(moved.at("blocks.0.attn.wq.weight"));
  CHECK(moved.at("embedding.weight"));
  CHECK(moved.at("head.weight"));
  for (const char* name : {"final_norm.weight", "blocks.0.attn.wq.bias", "blocks.0.attn.sink",
                           "position.t5_bias", "blocks.0.attn_scale", "blocks.1.ffn_norm.weight"}) {
    CAPTURE(name);
    CHECK_FALSE(moved.at(name));
  }
  CHECK_FALSE(changed({DecayGroup::embedding}).at("embedding.weight"));
  CHECK(changed({}).at("final_norm.weight"));
}

}  // namespace ballast::test
