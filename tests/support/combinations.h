// Random legal models, drawn from all that the configuration language can say.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "core/random.h"
#include "train/config/fields.h"
#include "train/config/run_config.h"

namespace ballast::test {

/// Values to draw from, for the keys whose values are not a table of kinds or true and false.
inline const std::map<std::string, std::vector<std::string>>& drawn_values() {
  static const std::map<std::string, std::vector<std::string>> kValues = {
      {"model.d_model", {"12", "16"}},
      {"model.n_layers", {"2"}},
      {"model.n_heads", {"2", "3", "4"}},
      {"model.n_kv_heads", {"null", "1", "2"}},
      {"model.head_dim", {"null", "6", "8"}},
      {"model.vocab_size", {"19"}},
      {"model.max_seq_len", {"null"}},
      {"model.preset", {"null"}},
      {"model.norm.eps", {"1e-5", "1e-2"}},
      {"model.block.residual_scale", {"1.0", "0.5", "depth"}},
      {"model.block.layer_scale", {"null", "0.7"}},
      {"model.ffn.d_ff", {"null", "10"}},
      {"model.ffn.ratio", {"null", "1.5"}},
      {"model.ffn.multiple_of", {"8", "2"}},
      {"model.position.theta", {"10000.0", "50"}},
      {"model.position.theta_local", {"null", "20"}},
      {"model.position.fraction", {"1.0", "0.5"}},
      {"model.position.layers", {"all", "local", "full", "[0]", "[1]"}},
      {"model.position.t5_buckets", {"32", "4"}},
      {"model.position.t5_max_distance", {"128", "6"}},
      {"model.attention.scale", {"null", "0.7"}},
      {"model.attention.softcap", {"0.0", "2.0"}},
      {"model.attention.window", {"0", "1", "3", "70"}},
      {"model.attention.pattern", {"[full]", "[local]", "[local, full]", "[full, local]"}},
      {"model.attention.nope_temperature", {"0.0", "0.3"}},
      {"model.attention.nope_temperature_floor", {"8192", "2"}},
      {"model.embedding.scale", {"1.0", "1.7", "sqrt_d"}},
      {"model.head.softcap", {"0.0", "5.0"}},
      {"model.head.scale", {"1.0", "0.6", "rsqrt_d"}},
      {"model.dropout.embedding", {"0.0", "0.2"}},
      {"model.dropout.attention", {"0.0", "0.2"}},
      {"model.dropout.residual", {"0.0", "0.2"}},
      {"model.init.std", {"0.02", "0.1"}},
      {"model.init.embedding_std", {"null", "0.3"}},
      {"model.init.trunc", {"null", "2.0"}},
      {"loss.z_loss", {"0.0", "0.01"}},
  };
  return kValues;
}

/// What a key can be set to: every kind of its table, both truth values, or the list above.
inline std::vector<std::string> candidates(const Field& field) {
  if (const auto it = drawn_values().find(field.path); it != drawn_values().end())
    return it->second;
  std::vector<std::string> values;
  if (field.type.nullable) values.emplace_back("null");
  if (field.type.kind == ValueType::Kind::boolean) {
    values.insert(values.end(), {"false", "true"});
  }
  if (field.type.kind == ValueType::Kind::choice) {
    for (const auto& choice : field.type.choices) values.push_back(choice.name);
  }
  return values;
}

struct Combination {
  std::vector<std::string> overrides;  ///< what to type to get the same
  RunConfig config;

  std::string text() const {
    std::string out;
    for (const std::string& o : overrides) out += (out.empty() ? "'" : " '") + o + "'";
    return out;
  }
};

/// The legal combination of this number: every key is drawn, contradictions are drawn again.
/// base: a file that sets what is no property of the model.
inline Combination random_combination(const std::filesystem::path& base, uint64_t number) {
  RandomStream random(20261, number);
  for (;;) {
    Combination c;
    RunConfig defaults;
    const std::vector<Field> fields = run_config_fields(defaults);
    for (const Field* field : leaf_fields(fields)) {
      if (!field->path.starts_with("model.") && !field->path.starts_with("loss.")) continue;
      const std::vector<std::string> values = candidates(*field);
      c.overrides.push_back(field->path + "=" + values.at(random.below(values.size())));
    }
    try {
      c.config = load_config(base, c.overrides);
      return c;
    } catch (const ConfigError&) {
      // A contradiction, which the language refuses.
    }
  }
}

}  // namespace ballast::test
