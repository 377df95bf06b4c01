#include "layers/model_config.h"

#include <set>
#include <string>

#include "tests/layers/support.h"
#include "tests/support/catch.h"

namespace ballast::test {

namespace {

int64_t d_ff(int64_t d_model, bool gated, std::optional<double> ratio = {},
             int64_t multiple_of = 8) {
  ModelConfig c = llama_style();
  c.d_model = d_model;
  c.ffn.d_ff.reset();
  c.ffn.gated = gated;
  c.ffn.ratio = ratio;
  c.ffn.multiple_of = multiple_of;
  return c.d_ff();
}

template <class Kind>
void check_rows() {
  std::set<std::string_view> names;
  std::set<Kind> kinds;
  for (const auto& row : variant_rows<Kind>()) {
    names.insert(row.name);
    kinds.insert(row.kind);
    CHECK_FALSE(row.paper.empty());
    CHECK(find_variant<Kind>(row.name) == &row);
    CHECK(name_of(row.kind) == row.name);
  }
  CHECK(names.size() == variant_rows<Kind>().size());
  CHECK(kinds.size() == variant_rows<Kind>().size());
  for (const std::string_view planned : planned_variants<Kind>()) {
    CAPTURE(planned);
    CHECK(names.insert(planned).second);
    CHECK(find_variant<Kind>(planned) == nullptr);
  }
}

}  // namespace

TEST_CASE("d_ff is four times d_model, or 8/3 when gated, rounded up to multiple_of",
          "[layers][config]") {
  CHECK(d_ff(256, false) == 1024);
  CHECK(d_ff(256, true) == 688);   // 682.67
  CHECK(d_ff(512, true) == 1368);  // 1365.33
  CHECK(d_ff(768, true) == 2048);  // exactly 8/3: no rounding error may push it up
  CHECK(d_ff(96, true) == 256);
  CHECK(d_ff(512, true, {}, 32) == 1376);
  CHECK(d_ff(512, true, {}, 256) == 1536);
  CHECK(d_ff(100, false, 1.001, 1) == 101);
  CHECK(d_ff(100, false, 0.5) == 56);
  CHECK(d_ff(10, false, 0.1, 1) == 1);
}

TEST_CASE("an explicit d_ff is taken as it is", "[layers][config]") {
  ModelConfig c = llama_style();
  c.ffn.d_ff = 21;
  c.ffn.ratio = 4.0;
  c.ffn.multiple_of = 64;
  CHECK(c.d_ff() == 21);
}

TEST_CASE("head sizes follow from d_model unless they are given", "[layers][config]") {
  ModelConfig c = llama_style();  // d 16, 4 heads, 2 of them with keys
  CHECK(c.head_size() == 4);
  CHECK(c.qkv_width() == (4 + 2 * 2) * 4);
  c.n_kv_heads.reset();
  CHECK(c.kv_heads() == 4);
  c.head_dim = 10;
  CHECK(c.head_size() == 10);
  CHECK(c.qkv_width() == 120);
  c.position.fraction = 0.4;
  CHECK(c.rotated_width() == 4);
}

TEST_CASE("sizes that contradict each other are refused by name", "[layers][config]") {
  struct Case {
    void (*change)(ModelConfig&);
    const char* message;
  };
  const Case cases[] = {
      {[](ModelConfig& c) { c.d_model = 0; }, "model.d_model = 0; expected a positive width"},
      {[](ModelConfig& c) { c.n_layers = 0; }, "model.n_layers = 0; expected at least one layer"},
      {[](ModelConfig& c) { c.n_heads = 0; }, "model.n_heads = 0; expected at least one head"},
      {[](ModelConfig& c) { c.n_heads = 7; },
       "model.n_heads = 7 does not divide model.d_model = 16; set model.head_dim or change one of "
       "them"},
      {[](ModelConfig& c) { c.n_kv_heads = 3; },
       "model.n_kv_heads = 3 does not divide model.n_heads = 4"},
      {[](ModelConfig& c) { c.n_kv_heads = 8; },
       "model.n_kv_heads = 8 does not divide model.n_heads = 4"},
      {[](ModelConfig& c) { c.n_kv_heads = 0; },
       "model.n_kv_heads = 0 does not divide model.n_heads = 4"},
      {[](ModelConfig& c) { c.head_dim = -2; }, "model.head_dim = -2; expected a positive width"},
      {[](ModelConfig& c) { c.ffn.d_ff = 0; }, "model.ffn.d_ff = 0; expected a positive width"},
      {[](ModelConfig& c) { c.ffn.multiple_of = 0; },
       "model.ffn.multiple_of = 0; expected at least 1"},
      {[](ModelConfig& c) { c.head_dim = 5; }, "expected an even number above 0"},
      {[](ModelConfig& c) { c.position.fraction = 0.75; },
       "model.position.fraction = 0.75 rotates 3 of 4 channels; expected an even number above 0"},
      {[](ModelConfig& c) { c.position.fraction = 0.6; }, "expected an even number above 0"},
      {[](ModelConfig& c) { c.position.fraction = 1e-9; }, "expected an even number above 0"},
      {[](ModelConfig& c) { c.position.fraction = 0.0; }, "expected more than 0 and at most 1"},
      {[](ModelConfig& c) { c.position.fraction = 1.5; }, "expected more than 0 and at most 1"},
      {[](ModelConfig& c) { c.norm.unit_offset = true, c.norm.weight = false; },
       "model.norm.unit_offset needs a gain"},
  };
  for (const Case& each : cases) {
    ModelConfig c = llama_style();
    each.change(c);
    CHECK_THROWS_AS(validate(c), std::invalid_argument);
    CHECK_THROWS_WITH(validate(c), ContainsSubstring(each.message));
  }
}

TEST_CASE("odd heads and any fraction are accepted where nothing is rotated", "[layers][config]") {
  ModelConfig c = llama_style();
  c.position.kind = GENERATE(PositionKind::none, PositionKind::learned);
  c.head_dim = 5;
  c.position.fraction = 0.75;
  CHECK_NOTHROW(validate(c));
}

TEST_CASE("n_heads need not divide d_model when head_dim is given", "[layers][config]") {
  ModelConfig c = llama_style();
  c.n_heads = 7;
  c.n_kv_heads = 7;
  c.head_dim = 4;
  CHECK_NOTHROW(validate(c));
}

TEST_CASE("each kind has one name, one row and a source", "[layers][config]") {
  check_rows<NormKind>();
  check_rows<NormPlacement>();
  check_rows<BlockTopology>();
  check_rows<ActivationKind>();
  check_rows<PositionKind>();
  check_rows<RopeLayout>();
  check_rows<ParallelNorms>();
  check_rows<LayerSet>();
  check_rows<LayerKind>();
  check_rows<QkNorm>();
  check_rows<QkNormKind>();
  check_rows<QkNormLayers>();
  check_rows<LocalKind>();
  check_rows<SinkKind>();
  check_rows<ResidualScale>();
  check_rows<EmbeddingScale>();
  check_rows<HeadScale>();
  check_rows<InitScheme>();
}

}  // namespace ballast::test
