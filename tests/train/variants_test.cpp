// Each value of each key of the model by itself, in a model where it has an effect.
#include "tests/support/catch.h"
#include "tests/support/combinations.h"
#include "tests/support/model_checks.h"
#include "tests/support/threads.h"

namespace ballast::test {

namespace {

struct Variant {
  std::string key, value;
  RunConfig config;
};

/// What a key needs to have an effect.
const std::map<std::string, std::vector<std::string>>& companions() {
  static const std::vector<std::string> kLocal = {"model.attention.pattern=[local, full]",
                                                  "model.attention.window=3"};
  static const std::vector<std::string> kQkNorm = {"model.attention.qk_norm=per_head",
                                                   "model.position.layers=[0]"};
  static const std::vector<std::string> kNope = {"model.position.layers=[0]",
                                                 "model.attention.nope_temperature=0.3"};
  static const std::map<std::string, std::vector<std::string>> kCompanions = {
      {"model.norm.bias", {"model.norm.kind=layernorm"}},
      {"model.norm.placement", {"model.norm.kind=layernorm", "model.norm.bias=true"}},
      {"model.block.topology", {"model.bias.ffn=true"}},
      {"model.block.parallel_norms", {"model.block.topology=parallel"}},
      {"model.position.theta_local", {"model.attention.pattern=[local, full]"}},
      {"model.position.layers", {"model.attention.pattern=[local, full]"}},
      {"model.position.alibi_scaled", {"model.position.kind=alibi"}},
      {"model.position.t5_buckets", {"model.position.kind=t5"}},
      {"model.position.t5_max_distance", {"model.position.kind=t5", "model.position.t5_buckets=4"}},
      {"model.attention.qk_norm_kind", kQkNorm},
      {"model.attention.qk_norm_after_rope", kQkNorm},
      {"model.attention.qk_norm_layers", kQkNorm},
      {"model.attention.v_norm", kQkNorm},
      {"model.attention.window", {"model.attention.pattern=[local, full]"}},
      {"model.attention.local", kLocal},
      {"model.attention.nope_temperature", {"model.position.layers=[0]"}},
      {"model.attention.nope_temperature_floor", kNope},
  };
  return kCompanions;
}

std::vector<Variant> variants(const std::vector<std::string>& common) {
  const auto base = std::filesystem::path(BALLAST_SOURCE_DIR) / "tests/configs/combination.yaml";
  RunConfig defaults;
  const std::vector<Field> fields = run_config_fields(defaults);
  std::vector<Variant> all;
  for (const Field* field : leaf_fields(fields)) {
    if (!field->path.starts_with("model.") && !field->path.starts_with("loss.")) continue;
    for (const std::string& value : candidates(*field)) {
      std::vector<std::string> overrides = common;
      if (const auto it = companions().find(field->path); it != companions().end()) {
        overrides.insert(overrides.end(), it->second.begin(), it->second.end());
      }
      overrides.push_back(field->path + "=" + value);
      if (field->path == "model.n_heads" && value == "3") {
        overrides.emplace_back("model.head_dim=6");
      }
      all.push_back({field->path, value, load_config(base, overrides)});
    }
  }
  return all;
}

template <class Check>
void for_part(size_t part, size_t parts, const std::vector<std::string>& common, Check&& check_it) {
  const WithThreads one(1);
  const std::vector<Variant> all = variants(common);
  REQUIRE(all.size() > 100);
  for (size_t i = part; i < all.size(); i += parts) {
    INFO(all[i].key << "=" << all[i].value);
    check_it(all[i].config);
  }
}

}  // namespace

TEMPLATE_TEST_CASE_SIG("a two-block model has exact gradients under every value of every key",
                       "[train][variants]", ((size_t kPart), kPart), 0, 1, 2, 3) {
  for_part(kPart, 4, {}, [](const RunConfig& c) { check_gradients(c, 6); });
}

TEMPLATE_TEST_CASE_SIG("a parallel block has exact gradients under every value of every key",
                       "[train][variants]", ((size_t kPart), kPart), 0, 1, 2, 3) {
  for_part(kPart, 4, {"model.block.topology=parallel", "model.norm.placement=sandwich"},
           [](const RunConfig& c) { check_gradients(c, 3); });
}

TEMPLATE_TEST_CASE_SIG("a cache gives the logits of a full forward under every value of every key",
                       "[train][variants]", ((size_t kPart), kPart), 0, 1) {
  // Longer than two tiles of attention, and than the largest window.
  std::vector<int64_t> prompt_then_tokens(51, 1);
  prompt_then_tokens.front() = 100;
  const std::vector<std::vector<int64_t>> splits = {
      std::vector<int64_t>(150, 1), prompt_then_tokens, {1, 7, 64, 65, 13}};
  for_part(kPart, 2, {"data.seq_len=150"}, [&](const RunConfig& c) { check_cache(c, splits); });
}

}  // namespace ballast::test
