#include "layers/model.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "autograd/gradcheck.h"
#include "core/error.h"
#include "tests/layers/support.h"
#include "tests/support/catch.h"

namespace ballast::test {

namespace {

std::vector<std::string> declared(const ModelConfig& config) {
  ParameterStore store;
  const Model model(config, store);
  std::vector<std::string> list;
  for (const Parameter& p : store.parameters()) list.push_back(concat(p.name, ' ', p.shape));
  std::sort(list.begin(), list.end());
  return list;
}

using Names = std::vector<std::string>;

Names sorted(Names names) {
  std::sort(names.begin(), names.end());
  return names;
}

Names one_block(ModelConfig c) {
  c.n_layers = 1;
  return declared(c);
}

struct Variant {
  std::string name;
  ModelConfig config;
  double z_loss = 0.0;
};

// One model for each value of each key that this version serves, the others as in llama_style().
std::vector<Variant> variants() {
  std::vector<Variant> all;
  const auto add = [&](const std::string& name, const std::function<void(ModelConfig&)>& change,
                       double z_loss = 0.0) {
    Variant v{name, llama_style(), z_loss};
    change(v.config);
    all.push_back(v);
  };
  add("llama style", [](ModelConfig&) {});
  all.push_back({"gpt2 style", gpt2_style()});
  for (const auto& row : variant_rows<NormKind>()) {
    for (const bool bias : {false, true}) {
      add(concat("norm ", row.name, bias ? " with a shift" : ""), [&](ModelConfig& c) {
        c.norm.kind = row.kind;
        c.norm.bias = bias;
        c.norm.embedding = true;
      });
    }
  }
  for (const NormKind kind : {NormKind::layernorm, NormKind::rmsnorm}) {
    add(concat("norm without a gain: ", name_of(kind)), [&](ModelConfig& c) {
      c.norm.kind = kind;
      c.norm.weight = false;
    });
    add(concat("unit_offset: ", name_of(kind)), [&](ModelConfig& c) {
      c.norm.kind = kind;
      c.norm.unit_offset = true;
    });
  }
  add("no final norm", [](ModelConfig& c) { c.norm.final = false; });
  for (const auto& row : variant_rows<NormPlacement>()) {
    add(concat("placement ", row.name), [&](ModelConfig& c) { c.norm.placement = row.kind; });
  }
  for (const auto& row : variant_rows<BlockTopology>()) {
    add(concat("topology ", row.name), [&](ModelConfig& c) { c.block.topology = row.kind; });
  }
  for (const auto& row : variant_rows<ActivationKind>()) {
    for (const bool gated : {false, true}) {
      add(concat(row.name, gated ? ", gated" : ", plain"), [&](ModelConfig& c) {
        c.ffn.activation = row.kind;
        c.ffn.gated = gated;
      });
    }
  }
  for (const auto& row : variant_rows<PositionKind>()) {
    add(concat("position ", row.name), [&](ModelConfig& c) { c.position.kind = row.kind; });
  }
  for (const auto& row : variant_rows<RopeLayout>()) {
    for (const double fraction : {0.5, 1.0}) {
      add(concat("rope ", row.name, " on ", fraction), [&](ModelConfig& c) {
        c.position.layout = row.kind;
        c.position.fraction = fraction;
        c.position.theta = 100.0;
      });
    }
  }
  for (const int64_t kv_heads : {1, 2, 4}) {
    add(concat(kv_heads, " of 4 heads have keys"),
        [&](ModelConfig& c) { c.n_kv_heads = kv_heads; });
  }
  add("a head_dim that is not d_model / n_heads", [](ModelConfig& c) {
    c.n_heads = 3;
    c.n_kv_heads = 1;
    c.head_dim = 6;
  });
  add("attention scale", [](ModelConfig& c) { c.attention.scale = 0.9; });
  add("bias qkv", [](ModelConfig& c) { c.bias.qkv = true; });
  add("bias attn_out", [](ModelConfig& c) { c.bias.attn_out = true; });
  add("bias ffn", [](ModelConfig& c) { c.bias.ffn = true; });
  add("bias head", [](ModelConfig& c) { c.bias.head = true; });
  add("tied", [](ModelConfig& c) { c.embedding.tie = true; });
  add("tied with a bias", [](ModelConfig& c) { c.embedding.tie = c.bias.head = true; });
  add("dropout embedding", [](ModelConfig& c) { c.dropout.embedding = 0.3; });
  add("dropout attention", [](ModelConfig& c) { c.dropout.attention = 0.3; });
  add("dropout residual", [](ModelConfig& c) { c.dropout.residual = 0.3; });
  add("dropout everywhere", [](ModelConfig& c) { c.dropout = {0.2, 0.2, 0.2}; });
  add(
      "z-loss", [](ModelConfig&) {}, 0.05);
  return all;
}

ForwardContext training(int64_t step, int64_t first_row = 0, uint64_t seed = 5) {
  ForwardContext context;
  context.training = true;
  context.dropout_seed = seed;
  context.step = step;
  context.first_row = first_row;
  return context;
}

// Slices of the list of variants, so that ctest checks them beside each other.
void check_gradients(size_t part, size_t parts) {
  const TokenBatch batch = random_batch(2, 6, kVocabulary, 8);
  const std::vector<Variant> all = variants();
  for (size_t i = part; i < all.size(); i += parts) {
    const Variant& v = all[i];
    TestModel m(v.config, Dtype::f64);
    GradcheckOptions options;
    options.entries_per_tensor = 6;
    const GradcheckReport report = gradcheck(
        m.store,
        [&](Tape& tape) {
          return m.model
              .loss(tape, batch.view(), batch.targets.data(),
                    {.z_loss = v.z_loss, .denominator = batch.size()}, training(3))
              .total;
        },
        options);
    INFO(v.name << ": error " << report.error << " in " << report.tensor << "[" << report.entry
                << "], analytic " << report.analytic << ", numeric " << report.numeric
                << ", redrawn " << report.n_redrawn << " of " << report.n_checked);
    CHECK(report.error <= 1e-7);
    CHECK(report.passed);
  }
}

}  // namespace

TEST_CASE("a llama-style model declares its parameters by their public names", "[layers][model]") {
  CHECK(one_block(llama_style()) == sorted({
                                        "embedding.weight (19, 16)",
                                        "blocks.0.attn_norm.weight (16)",
                                        "blocks.0.attn.wq.weight (16, 16)",
                                        "blocks.0.attn.wk.weight (8, 16)",
                                        "blocks.0.attn.wv.weight (8, 16)",
                                        "blocks.0.attn.wo.weight (16, 16)",
                                        "blocks.0.ffn_norm.weight (16)",
                                        "blocks.0.ffn.w_gate.weight (20, 16)",
                                        "blocks.0.ffn.w_up.weight (20, 16)",
                                        "blocks.0.ffn.w_down.weight (16, 20)",
                                        "final_norm.weight (16)",
                                        "head.weight (19, 16)",
                                    }));
}

TEST_CASE("a gpt2-style model declares its parameters by their public names", "[layers][model]") {
  ModelConfig c = gpt2_style();
  c.bias.head = true;
  c.norm.embedding = true;
  CHECK(one_block(c) == sorted({
                            "embedding.weight (19, 12)",
                            "position.weight (8, 12)",
                            "embedding_norm.weight (12)",
                            "embedding_norm.bias (12)",
                            "blocks.0.attn_norm.weight (12)",
                            "blocks.0.attn_norm.bias (12)",
                            "blocks.0.attn.wq.weight (12, 12)",
                            "blocks.0.attn.wq.bias (12)",
                            "blocks.0.attn.wk.weight (12, 12)",
                            "blocks.0.attn.wk.bias (12)",
                            "blocks.0.attn.wv.weight (12, 12)",
                            "blocks.0.attn.wv.bias (12)",
                            "blocks.0.attn.wo.weight (12, 12)",
                            "blocks.0.attn.wo.bias (12)",
                            "blocks.0.ffn_norm.weight (12)",
                            "blocks.0.ffn_norm.bias (12)",
                            "blocks.0.ffn.w_up.weight (48, 12)",
                            "blocks.0.ffn.w_up.bias (48)",
                            "blocks.0.ffn.w_down.weight (12, 48)",
                            "blocks.0.ffn.w_down.bias (12)",
                            "final_norm.weight (12)",
                            "final_norm.bias (12)",
                            "head.bias (19)",
                        }));
}

TEST_CASE("multi-query attention with a free head_dim declares rectangular projections",
          "[layers][model]") {
  ModelConfig c = llama_style();
  c.n_heads = 3;
  c.n_kv_heads = 1;
  c.head_dim = 10;
  c.bias.qkv = true;
  c.embedding.tie = true;
  c.norm.final = false;
  CHECK(one_block(c) == sorted({
                            "embedding.weight (19, 16)",
                            "blocks.0.attn_norm.weight (16)",
                            "blocks.0.attn.wq.weight (30, 16)",
                            "blocks.0.attn.wk.weight (10, 16)",
                            "blocks.0.attn.wv.weight (10, 16)",
                            "blocks.0.attn.wq.bias (30)",
                            "blocks.0.attn.wk.bias (10)",
                            "blocks.0.attn.wv.bias (10)",
                            "blocks.0.attn.wo.weight (16, 30)",
                            "blocks.0.ffn_norm.weight (16)",
                            "blocks.0.ffn.w_gate.weight (20, 16)",
                            "blocks.0.ffn.w_up.weight (20, 16)",
                            "blocks.0.ffn.w_down.weight (16, 20)",
                        }));
}

TEST_CASE("a model without norms declares none", "[layers][model]") {
  ModelConfig c = gpt2_style();
  c.norm.kind = NormKind::none;
  c.norm.embedding = true;
  for (const std::string& name : declared(c)) {
    CHECK(name.find("norm") == std::string::npos);
  }
}

TEST_CASE("parameters know their role, and which end a branch", "[layers][model]") {
  ModelConfig c = gpt2_style();
  c.norm.unit_offset = true;
  c.embedding.tie = false;
  c.bias.head = true;
  ParameterStore store;
  const Model model(c, store);
  const auto role = [&](const char* name) { return store.find(name)->role; };
  CHECK(role("embedding.weight") == Role::embedding);
  CHECK(role("position.weight") == Role::position);
  CHECK(role("blocks.1.attn_norm.weight") == Role::offset);
  CHECK(role("blocks.1.attn_norm.bias") == Role::bias);
  CHECK(role("blocks.1.attn.wq.weight") == Role::linear);
  CHECK(role("blocks.1.attn.wq.bias") == Role::bias);
  CHECK(role("head.weight") == Role::head);
  CHECK(role("head.bias") == Role::bias);
  for (const Parameter& p : store.parameters()) {
    const bool ends = p.name.ends_with(".attn.wo.weight") || p.name.ends_with(".w_down.weight");
    CAPTURE(p.name);
    CHECK(p.ends_branch == ends);
  }
}

TEST_CASE("a model refuses a configuration that does not say its sizes", "[layers][model]") {
  ParameterStore store;
  ModelConfig c = llama_style();
  c.vocab_size.reset();
  CHECK_THROWS_WITH(Model(c, store), ContainsSubstring("model.vocab_size is not set"));
  c = llama_style();
  c.max_seq_len.reset();
  CHECK_THROWS_WITH(Model(c, store), ContainsSubstring("model.max_seq_len is not set"));
}

TEST_CASE("gradients of models with each variant agree with central differences, part 1 of 4",
          "[layers][model][gradcheck]") {
  check_gradients(0, 4);
}
TEST_CASE("gradients of models with each variant agree with central differences, part 2 of 4",
          "[layers][model][gradcheck]") {
  check_gradients(1, 4);
}
TEST_CASE("gradients of models with each variant agree with central differences, part 3 of 4",
          "[layers][model][gradcheck]") {
  check_gradients(2, 4);
}
TEST_CASE("gradients of models with each variant agree with central differences, part 4 of 4",
          "[layers][model][gradcheck]") {
  check_gradients(3, 4);
}

namespace {

template <class T>
std::vector<T> values(const Tensor& t) {
  return {t.data<T>(), t.data<T>() + t.size()};
}

template <class T>
std::vector<T> logits_of(TestModel& m, TokenView tokens, const ForwardContext& context) {
  Tape tape(m.store.dtype());
  tape.set_recording(false);
  return values<T>(tape.value(m.model.logits(tape, tokens, context)));
}

// Logits of all positions when the sequence is read in chunks behind a cache.
std::vector<float> cached_logits(TestModel& m, const TokenBatch& sequence,
                                 const std::vector<int64_t>& chunks) {
  KvCaches caches(m.config, Dtype::f32, sequence.length);
  Tape tape;
  tape.set_recording(false);
  std::vector<float> all;
  int64_t done = 0;
  for (const int64_t n : chunks) {
    tape.reset();
    ForwardContext context;
    context.caches = &caches.layers();
    context.position_offset = done;
    const TokenView next{sequence.tokens.data() + done, 1, n};
    const std::vector<float> y = values<float>(tape.value(m.model.logits(tape, next, context)));
    all.insert(all.end(), y.begin(), y.end());
    done += n;
    REQUIRE(caches.length() == done);
  }
  REQUIRE(done == sequence.length);
  return all;
}

struct TopTwo {
  int64_t best;
  double lead;
};

TopTwo top_two(const float* logits, int64_t n) {
  const int64_t best = std::max_element(logits, logits + n) - logits;
  double second = -INFINITY;
  for (int64_t i = 0; i < n; ++i) {
    if (i != best) second = std::max(second, static_cast<double>(logits[i]));
  }
  return {best, static_cast<double>(logits[best]) - second};
}

// Wide enough for vector loops and longer than a tile of attention.
ModelConfig cached_model(PositionKind position, int64_t kv_heads) {
  ModelConfig c = llama_style();
  c.d_model = 64;
  c.n_kv_heads = kv_heads;
  c.ffn.d_ff = 96;
  c.vocab_size = 61;
  c.max_seq_len = 150;
  c.position.kind = position;
  return c;
}

}  // namespace

TEST_CASE("cached logits are those of a full forward pass", "[layers][model][cache]") {
  const PositionKind position =
      GENERATE(PositionKind::none, PositionKind::learned, PositionKind::rope);
  const int64_t kv_heads = GENERATE(1, 2, 4);
  TestModel m(cached_model(position, kv_heads), Dtype::f32);
  const int64_t v = *m.config.vocab_size;
  const TokenBatch sequence = random_batch(1, 150, v, 4);
  const std::vector<float> full = logits_of<float>(m, sequence.view(), {});
  double largest = 0.0;
  for (const float x : full) largest = std::max(largest, std::abs(static_cast<double>(x)));
  REQUIRE(largest > 1.0);
  const double tolerance = 1e-5 * largest;  // what a user may rely on

  const std::vector<int64_t> one_by_one(150, 1);
  std::vector<int64_t> prompt_then_tokens(51, 1);
  prompt_then_tokens.front() = 100;
  const std::vector<int64_t> chunks = {1, 7, 64, 65, 13};
  for (const auto& split : {one_by_one, prompt_then_tokens, chunks}) {
    const std::vector<float> cached = cached_logits(m, sequence, split);
    REQUIRE(cached.size() == full.size());
    double worst = 0.0;
    int64_t undecided = 0;
    for (int64_t t = 0; t < 150; ++t) {
      const float* a = full.data() + t * v;
      const float* b = cached.data() + t * v;
      for (int64_t i = 0; i < v; ++i) {
        const double error = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
        if (std::isnan(error)) FAIL("a logit is not a number");
        worst = std::max(worst, error);
      }
      const TopTwo top = top_two(a, v);
      if (top.lead > tolerance) {
        if (top_two(b, v).best != top.best) FAIL("another greedy token at position " << t);
      } else {
        ++undecided;
      }
    }
    CAPTURE(kv_heads, largest, split.size());
    CHECK(worst <= tolerance);
    CHECK(undecided <= 1);
  }
}

TEST_CASE("the logits of the last position alone are those of all", "[layers][model][cache]") {
  TestModel m(GENERATE(llama_style(), gpt2_style()), Dtype::f64);
  const TokenBatch sequence = random_batch(1, 8, kVocabulary, 4);
  const std::vector<double> full = logits_of<double>(m, sequence.view(), {});
  Tape tape(Dtype::f64);
  tape.set_recording(false);
  const Var last = m.model.last_logits(tape, sequence.view(), {});
  CHECK(tape.value(last).shape == Shape{1, 1, kVocabulary});
  CHECK(values<double>(tape.value(last)) ==
        std::vector<double>(full.end() - kVocabulary, full.end()));
  tape.set_recording(true);
  CHECK_THROWS_WITH(m.model.last_logits(tape, sequence.view(), {}),
                    ContainsSubstring("no recording"));
}

TEST_CASE("a cleared cache starts a new sequence, a full one refuses", "[layers][model][cache]") {
  TestModel m(llama_style(), Dtype::f64);
  KvCaches caches(m.config, Dtype::f64, 5);
  CHECK(caches.capacity() == 5);
  const TokenBatch sequence = random_batch(1, 6, kVocabulary, 4);
  ForwardContext context;
  context.caches = &caches.layers();
  const auto first = logits_of<double>(m, {sequence.tokens.data(), 1, 5}, context);
  context.position_offset = 5;
  CHECK_THROWS_WITH(logits_of<double>(m, {sequence.tokens.data() + 5, 1, 1}, context),
                    ContainsSubstring("6 positions do not fit into a cache of 5"));
  caches.clear();
  CHECK(caches.length() == 0);
  context.position_offset = 0;
  CHECK(logits_of<double>(m, {sequence.tokens.data(), 1, 5}, context) == first);
}

TEST_CASE("positions beyond the table are refused, rope's table grows", "[layers][model]") {
  const TokenBatch sequence = random_batch(1, 9, kVocabulary, 4);
  TestModel learned(gpt2_style(), Dtype::f64);
  CHECK_THROWS_WITH(logits_of<double>(learned, sequence.view(), {}),
                    ContainsSubstring("9 positions are needed but the table has 8"));
  TestModel rotated(llama_style(), Dtype::f64);
  const TokenView start{sequence.tokens.data(), 1, 8};
  const std::vector<double> before = logits_of<double>(rotated, start, {});
  const std::vector<double> longer = logits_of<double>(rotated, sequence.view(), {});
  // Another length, another order of summation: some roundings of float64 apart.
  for (size_t i = 0; i < before.size(); ++i) {
    CHECK(longer[i] == Approx(before[i]).epsilon(1e-12).margin(1e-12));
  }
}

TEST_CASE("no position sees what comes after it", "[layers][model]") {
  TestModel m(GENERATE(llama_style(), gpt2_style()), Dtype::f64);
  TokenBatch batch = random_batch(2, 7, kVocabulary, 6);
  const std::vector<double> before = logits_of<double>(m, batch.view(), {});
  for (int64_t t = 4; t < 7; ++t) {
    int32_t& token = batch.tokens[static_cast<size_t>(t)];
    token = (token + 1) % static_cast<int32_t>(kVocabulary);
  }
  const std::vector<double> after = logits_of<double>(m, batch.view(), {});
  for (int64_t t = 0; t < 14; ++t) {
    const auto at = t * kVocabulary;
    CAPTURE(t);
    CHECK(std::equal(before.begin() + at, before.begin() + at + kVocabulary, after.begin() + at) ==
          (t < 4 || t >= 7));
  }
}

TEST_CASE("the loss is the mean cross-entropy of the logits, plus z-loss", "[layers][model]") {
  TestModel m(GENERATE(llama_style(), gpt2_style()), Dtype::f64);
  TokenBatch batch = random_batch(2, 6, kVocabulary, 6);
  batch.targets[3] = -1;  // ignored
  const std::vector<double> logits = logits_of<double>(m, batch.view(), {});
  double ce = 0.0;
  double z = 0.0;
  for (int64_t t = 0; t < 12; ++t) {
    if (batch.targets[static_cast<size_t>(t)] < 0) continue;
    double sum = 0.0;
    const double* row = logits.data() + t * kVocabulary;
    for (int64_t i = 0; i < kVocabulary; ++i) sum += std::exp(row[i]);
    const double lse = std::log(sum);
    ce += (lse - row[batch.targets[static_cast<size_t>(t)]]) / 11.0;
    z += 0.01 * lse * lse / 11.0;
  }
  Tape tape(Dtype::f64);
  const LmLoss loss =
      m.model.loss(tape, batch.view(), batch.targets.data(), {.z_loss = 0.01, .denominator = 11});
  CHECK(loss.stats->ce == Approx(ce).epsilon(1e-12));
  CHECK(loss.stats->z == Approx(z).epsilon(1e-12));
  CHECK(loss.stats->n_targets == 11);
  CHECK(tape.value(loss.total).data<double>()[0] == Approx(ce + z).epsilon(1e-12));
}

TEST_CASE("dropout masks do not depend on the split into micro-batches", "[layers][model]") {
  ModelConfig c = GENERATE(llama_style(), gpt2_style());
  c.dropout = {0.3, 0.3, 0.3};
  TestModel m(c, Dtype::f64);
  const TokenBatch batch = random_batch(4, 6, kVocabulary, 6);
  const std::vector<double> whole = logits_of<double>(m, batch.view(), training(7));
  for (const int64_t rows : {1, 2}) {
    std::vector<double> parts;
    for (int64_t row = 0; row < 4; row += rows) {
      const auto part = logits_of<double>(m, batch.view(row, row + rows), training(7, row));
      parts.insert(parts.end(), part.begin(), part.end());
    }
    CHECK(parts == whole);
  }
}

TEST_CASE("dropout masks differ by step, seed and row, and repeat", "[layers][model]") {
  const ModelConfig plain = GENERATE(llama_style(), gpt2_style());
  for (const int site : {0, 1, 2}) {
    ModelConfig c = plain;
    (site == 0 ? c.dropout.embedding : site == 1 ? c.dropout.attention : c.dropout.residual) = 0.4;
    TestModel m(c, Dtype::f64);
    TokenBatch batch = random_batch(2, 6, kVocabulary, 6);
    std::copy_n(batch.tokens.begin(), 6, batch.tokens.begin() + 6);  // two equal rows
    const auto logits = [&](const ForwardContext& context) {
      return logits_of<double>(m, batch.view(), context);
    };
    const std::vector<double> y = logits(training(7));
    CAPTURE(site);
    CHECK(logits(training(7)) == y);
    CHECK(logits(training(8)) != y);
    CHECK(logits(training(7, 0, 6)) != y);
    CHECK(logits(training(7, 2)) != y);
    CHECK_FALSE(std::equal(y.begin(), y.begin() + 6 * kVocabulary, y.begin() + 6 * kVocabulary));
  }
}

TEST_CASE("evaluation ignores dropout", "[layers][model]") {
  ModelConfig c = GENERATE(llama_style(), gpt2_style());
  const TokenBatch batch = random_batch(2, 6, kVocabulary, 6);
  TestModel plain(c, Dtype::f64);
  const std::vector<double> expected = logits_of<double>(plain, batch.view(), {});
  CHECK(logits_of<double>(plain, batch.view(), training(7)) == expected);
  c.dropout = {0.3, 0.3, 0.3};
  TestModel m(c, Dtype::f64);
  CHECK(logits_of<double>(m, batch.view(), {}) == expected);
  CHECK(logits_of<double>(m, batch.view(), training(7)) != expected);
}

TEST_CASE("gradients of micro-batches add up to those of the whole batch", "[layers][model]") {
  ModelConfig c = GENERATE(llama_style(), gpt2_style());
  c.dropout = {0.2, 0.2, 0.2};
  TestModel m(c, Dtype::f64);
  const TokenBatch batch = random_batch(4, 6, kVocabulary, 6);
  const auto gradients = [&](int64_t rows) {
    Tape tape(Dtype::f64);
    m.store.begin_gradients();
    for (int64_t row = 0; row < 4; row += rows) {
      tape.reset();
      const LmLoss loss =
          m.model.loss(tape, batch.view(row, row + rows), batch.targets.data() + row * 6,
                       {.z_loss = 0.01, .denominator = 24}, training(7, row));
      tape.backward(loss.total);
    }
    m.store.finish_gradients();
    return values<double>(m.store.gradients());
  };
  const std::vector<double> whole = gradients(4);
  double largest = 0.0;
  for (const double g : whole) largest = std::max(largest, std::abs(g));
  for (const int64_t rows : {1, 2}) {
    const std::vector<double> parts = gradients(rows);
    // Sums of 24 rows in another order: a few roundings of the largest terms.
    for (size_t i = 0; i < whole.size(); ++i) {
      if (!(std::abs(parts[i] - whole[i]) <= 1e-13 * largest)) FAIL("element " << i);
    }
  }
}

}  // namespace ballast::test
