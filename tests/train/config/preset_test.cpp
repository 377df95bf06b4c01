#include "train/config/preset.h"

#include <cmath>
#include <set>

#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"
#include "train/config/diff.h"
#include "train/config/fields.h"

namespace ballast {
namespace {

namespace fs = std::filesystem;

// 40 channels a head: presets rotate 0.25 and 0.4 of them.
const char* const kSizes =
    "data: {seq_len: 16}\n"
    "train: {steps: 10}\n"
    "model: {d_model: 32, n_layers: 12, n_heads: 4, head_dim: 40";

class Files {
 public:
  fs::path write(const std::string& name, const std::string& text) const {
    put_contents(folder_ / name, text);
    return folder_ / name;
  }
  /// A file with sizes and these further keys of the model.
  fs::path model(const std::string& name, const std::string& keys) const {
    return write(name, concat(kSizes, keys.empty() ? "" : ", ", keys, "}\n"));
  }

 private:
  TemporaryFolder folder_;
};

std::string error_of(const fs::path& path, const std::vector<std::string>& overrides = {}) {
  try {
    load_config(path, overrides);
    return "";
  } catch (const ConfigError& e) {
    return e.what();
  }
}

ModelConfig model_of(const char* name) {
  return preset_config(*find_preset(name)).model;
}

}  // namespace

TEST_CASE("the presets are those of the catalogue", "[train][config][presets]") {
  std::vector<std::string> names;
  for (const Preset& preset : presets()) names.emplace_back(preset.name);
  CHECK(names == std::vector<std::string>{
                     "gpt2",   "gptj",      "gpt_neox",   "palm",     "t5",        "bloom",
                     "llama2", "llama3",    "mistral",    "gemma",    "gemma2",    "gemma3",
                     "qwen2",  "qwen3",     "olmo",       "olmo2",    "command_r", "command_a",
                     "phi2",   "falcon_7b", "falcon_40b", "stablelm", "smollm3",   "llama4"});
  CHECK(find_preset("gpt5") == nullptr);
}

TEST_CASE("every preset sets keys of the model to values they take, and no size",
          "[train][config][presets]") {
  const std::set<std::string_view> sizes = {"d_model",    "n_layers",    "n_heads",  "head_dim",
                                            "vocab_size", "max_seq_len", "ffn.d_ff", "preset"};
  for (const Preset& preset : presets()) {
    CAPTURE(preset.name);
    CHECK(preset.source.size() > 10);
    RunConfig config = preset_config(preset);  // throws for what is no key or no value of it
    const std::vector<Field> fields = run_config_fields(config);
    const std::vector<const Field*> leaves = leaf_fields(fields);
    std::set<std::string_view> seen;
    for (const PresetSetting& setting : preset.settings) {
      CAPTURE(setting.key);
      CHECK(sizes.count(setting.key) == 0);
      CHECK(seen.insert(setting.key).second);
      const auto field = std::find_if(leaves.begin(), leaves.end(), [&](const Field* f) {
        return f->path == concat("model.", setting.key);
      });
      REQUIRE(field != leaves.end());
      double number = 0.0;
      const bool is_number = parse_double(setting.value, number);
      const std::string written = flow_text((*field)->write(), 200);
      double back = 0.0;
      CHECK((is_number ? parse_double(written, back) && back == number : written == setting.value));
      // A key-value head of its own is part of an architecture only where there is but one.
      if (setting.key == "n_kv_heads") CHECK(setting.value == "1");
    }
    for (const char* key : {"norm.kind", "norm.eps", "ffn.activation", "ffn.gated", "ffn.ratio",
                            "position.kind", "embedding.tie"}) {
      CAPTURE(key);
      CHECK(seen.count(key) == 1);
    }
  }
}

TEST_CASE("a preset's values lie above the defaults and below every other setting",
          "[train][config][presets]") {
  const Files files;
  const RunConfig plain = load_config(files.model("plain.yaml", "preset: gpt2"));
  CHECK(plain.preset == "gpt2");
  CHECK(plain.model.norm.kind == NormKind::layernorm);
  CHECK(plain.model.norm.bias);
  CHECK(plain.model.dropout.residual == 0.1);
  CHECK(plain.model.d_model == 32);

  files.model("parent.yaml", "norm: {eps: 1.0e-3}, embedding: {tie: false}, preset: llama2");
  const fs::path child = files.write("child.yaml",
                                     "extends: parent.yaml\n"
                                     "model: {preset: gpt2, norm: {bias: false}}\n");
  const RunConfig c = load_config(child);
  CHECK(c.preset == "gpt2");                        // the child's
  CHECK(c.model.norm.kind == NormKind::layernorm);  // the preset's
  CHECK_FALSE(c.model.norm.bias);                   // the child's own
  CHECK(c.model.norm.eps == 1e-3);                  // the parent's own: no preset reaches above it
  CHECK_FALSE(c.model.embedding.tie);
  CHECK(c.model.ffn.ratio == 4.0);

  const std::vector<std::string> typed = {"model.preset=llama2", "model.ffn.ratio=3"};
  const RunConfig o = load_config(child, typed);
  CHECK(o.preset == "llama2");
  CHECK(o.model.norm.kind == NormKind::rmsnorm);
  CHECK(o.model.ffn.ratio == 3.0);
  const std::vector<std::string> without = {"model.preset=null"};
  CHECK(load_config(child, without).preset.empty());
  CHECK(load_config(child, without).model.norm.kind == NormKind::rmsnorm);
  CHECK(load_config(child, without).model.norm.eps == 1e-3);
  const std::vector<std::string> null_key = {"model.ffn.ratio=null"};
  CHECK_FALSE(load_config(child, null_key).model.ffn.ratio.has_value());
}

TEST_CASE("a resolved configuration keeps its preset's name and reads back to the same",
          "[train][config][presets]") {
  const Files files;
  for (const Preset& preset : presets()) {
    CAPTURE(preset.name);
    const fs::path path = files.model(
        "a.yaml", concat("preset: ", preset.name, ", ffn: {ratio: null}, norm: {eps: 0.5}"));
    std::vector<std::string> notes;
    const RunConfig c = load_config(path, {}, &notes);
    CHECK(notes.empty());  // what a preset sets idly nobody wrote
    const std::string dump = dump_config(c);
    CHECK_THAT(dump, ContainsSubstring(concat("  preset: ", preset.name, "\n")));
    const RunConfig back = load_config(files.write("dump.yaml", dump));
    CHECK(dump_config(back) == dump);
    CHECK_FALSE(back.model.ffn.ratio.has_value());
    CHECK(back.model.norm.eps == 0.5);
  }
}

TEST_CASE("an unknown preset is refused where it stands", "[train][config][presets]") {
  const Files files;
  CHECK_THAT(error_of(files.model("c.yaml", "preset: gpt22")),
             ContainsSubstring("c.yaml:3:") &&
                 ContainsSubstring("model.preset = gpt22: unknown value; expected gpt2 | gptj") &&
                 ContainsSubstring("did you mean 'gpt2'?"));
  CHECK_THAT(error_of(files.model("c.yaml", "preset: [gpt2]")),
             ContainsSubstring("model.preset = [gpt2]: a list"));
  CHECK_THAT(error_of(files.write("c.yaml", "model: 3\n")), ContainsSubstring("not a mapping"));
}

TEST_CASE("a value of a preset that a size contradicts is refused as the preset's",
          "[train][config][presets]") {
  const Files files;
  CHECK_THAT(error_of(files.model("c.yaml", "preset: stablelm"), {"model.head_dim=36"}),
             ContainsSubstring("preset stablelm: model.position.fraction = 0.25 rotates 9 of 36"));
}

TEST_CASE("what turns LLaMA 2 into OLMo 2 is a handful of keys", "[train][config][presets]") {
  std::vector<std::string> lines;
  for (const ConfigDifference& d : diff_configs("llama2", "olmo2")) {
    lines.push_back(concat(d.key, ": ", d.a, " -> ", d.b));
  }
  CHECK(lines == std::vector<std::string>{
                     "model.norm.placement: pre -> output", "model.norm.eps: 1.0e-5 -> 1.0e-6",
                     "model.position.theta: 10000.0 -> 5.0e+5",
                     "model.attention.qk_norm: none -> full",
                     "model.init.depth_scale: true -> false", "model.init.trunc: null -> 3.0"});
}

TEST_CASE("neighbours differ in what their papers say and in nothing else",
          "[train][config][presets]") {
  const auto keys = [](const char* a, const char* b) {
    std::set<std::string> names;
    for (const ConfigDifference& d : diff_configs(a, b)) names.insert(d.key.substr(6));
    return names;
  };
  using Keys = std::set<std::string>;
  CHECK(keys("llama2", "llama3") == Keys{"ffn.ratio", "position.theta"});
  CHECK(keys("llama3", "mistral") ==
        Keys{"position.theta", "attention.window", "attention.pattern"});
  CHECK(keys("falcon_7b", "falcon_40b") == Keys{"block.parallel_norms", "n_kv_heads"});
  CHECK(keys("gemma", "gemma2") == Keys{"norm.placement", "ffn.ratio", "attention.softcap",
                                        "attention.window", "attention.pattern", "head.softcap"});
  CHECK(keys("qwen2", "qwen3") == Keys{"ffn.ratio", "bias.qkv", "attention.qk_norm"});
  // GPT-J and NeoX: the layout of rope, the norms, and what of it is a size or a bias.
  CHECK(keys("gptj", "gpt_neox") == Keys{"block.parallel_norms", "ffn.activation",
                                         "position.layout", "bias.qkv", "bias.attn_out",
                                         "bias.head"});
  for (const Preset& preset : presets()) {
    CHECK(diff_configs(std::string(preset.name), std::string(preset.name)).empty());
  }
}

TEST_CASE("presets have the eps of checkpoints, not of their classes", "[train][config][presets]") {
  for (const char* name : {"llama2", "llama3", "mistral", "llama4"}) {
    CHECK(model_of(name).norm.eps == 1e-5);  // the class: 1e-6
  }
  CHECK(model_of("olmo2").norm.eps == 1e-6);  // the class: 1e-5
  for (const char* name : {"gemma", "gemma2", "gemma3", "t5", "qwen2", "qwen3", "smollm3"}) {
    CHECK(model_of(name).norm.eps == 1e-6);
  }
}

TEST_CASE("Gemma 2's even layers are local, Gemma 3's sixth is global",
          "[train][config][presets]") {
  const ModelConfig gemma2 = model_of("gemma2"), gemma3 = model_of("gemma3");
  for (int64_t i = 0; i < 12; ++i) {
    CHECK(gemma2.is_local(i) == (i % 2 == 0));
    CHECK(gemma3.is_local(i) == ((i + 1) % 6 != 0));
    CHECK((gemma3.is_local(i) ? gemma3.position.theta_local : gemma3.position.theta) ==
          (gemma3.is_local(i) ? 1e4 : 1e6));
  }
  for (const char* name : {"gemma", "gemma2", "gemma3"}) CHECK(model_of(name).norm.unit_offset);
}

TEST_CASE("every fourth layer of SmolLM3, Command A and Llama 4 has no rope",
          "[train][config][presets]") {
  for (const char* name : {"smollm3", "command_a", "llama4"}) {
    const ModelConfig c = model_of(name);
    for (int64_t i = 0; i < 8; ++i) CHECK(c.has_rope(i) == ((i + 1) % 4 != 0));
  }
  const ModelConfig smollm3 = model_of("smollm3"), llama4 = model_of("llama4");
  CHECK(smollm3.attention.window == 0);  // all its layers see all keys
  CHECK(llama4.attention.local == LocalKind::chunk);
  CHECK(llama4.attention.qk_norm == QkNorm::l2);
  CHECK(llama4.attention.qk_norm_after_rope);
  CHECK(llama4.has_qk_norm(0));
  CHECK_FALSE(llama4.has_qk_norm(3));
}

TEST_CASE("presets remember what implementers forget", "[train][config][presets]") {
  CHECK(model_of("olmo2").attention.qk_norm == QkNorm::full);
  CHECK(model_of("qwen3").attention.qk_norm == QkNorm::per_head);
  CHECK(model_of("t5").attention_scale() == 1.0);
  ModelConfig t5 = model_of("t5");
  t5.d_model = 64;
  CHECK(t5.head_scale() == 0.125);
  CHECK(model_of("gptj").bias.head);
  CHECK(model_of("phi2").bias.head);
  CHECK_FALSE(model_of("gpt_neox").bias.head);
  CHECK(model_of("gptj").position.layout == RopeLayout::interleaved);
  CHECK(model_of("gpt_neox").position.layout == RopeLayout::half);
  CHECK(model_of("palm").kv_heads() == 1);
  CHECK(model_of("falcon_7b").kv_heads() == 1);
  for (const Preset& preset : presets()) {
    CAPTURE(preset.name);
    const DropoutConfig dropout = preset_config(preset).model.dropout;
    const double p = preset.name == "gpt2" || preset.name == "t5" ? 0.1 : 0.0;
    CHECK(dropout.embedding == p);
    CHECK(dropout.attention == p);
    CHECK(dropout.residual == p);
  }
}

TEST_CASE("files are compared by resolved keys", "[train][config][presets]") {
  const Files files;
  const auto lines = [](const std::string& a, const std::string& b) {
    std::vector<std::string> all;
    for (const ConfigDifference& d : diff_configs(a, b)) {
      all.push_back(concat(d.key, ": ", d.a, " -> ", d.b));
    }
    return all;
  };
  using Lines = std::vector<std::string>;
  const std::string a = files.model("a.yaml", "").string();
  CHECK(lines(a, a).empty());
  // The same, written out; a width that follows from another is not repeated.
  CHECK(lines(a, files.model("b.yaml", "n_kv_heads: 4, ffn: {d_ff: 88}").string()).empty());
  CHECK(lines(a, files.model("b.yaml", "n_kv_heads: 2, norm: {kind: layernorm}").string()) ==
        Lines{"model.n_kv_heads: 4 -> 2", "model.norm.kind: rmsnorm -> layernorm"});
  CHECK(
      lines(files
                .write("b.yaml",
                       std::string(kSizes).replace(std::string(kSizes).find("32"), 2, "64") + "}\n")
                .string(),
            a) == Lines{"model.d_model: 64 -> 32"});
}

TEST_CASE("a file is compared with a preset by what makes an architecture",
          "[train][config][presets]") {
  const Files files;
  const std::string path = files.model("a.yaml", "preset: llama2, norm: {eps: 0.25}").string();
  const auto found = diff_configs("llama2", path);
  REQUIRE(found.size() == 1);
  CHECK(found[0].key == "model.norm.eps");
  CHECK(found[0].a == "1.0e-5");
  CHECK(found[0].b == "0.25");
  CHECK_THROWS_WITH(diff_configs("llama22", path),
                    ContainsSubstring("llama22: no such file and no preset of that name; did you "
                                      "mean 'llama2'?"));
}

}  // namespace ballast
