#include <cmath>
#include <set>

#include "tests/train/small_run.h"
#include "train/checkpoint/safetensors.h"

namespace ballast {
namespace {

namespace fs = std::filesystem;

void put_tokens(const fs::path& path, const std::vector<int32_t>& tokens, int64_t rows,
                const std::string& name = "tokens") {
  FileSystem files;
  const std::vector<TensorSource> sources = {
      {name, StoredType::I32, {rows, static_cast<int64_t>(tokens.size()) / rows}, tokens.data()}};
  write_safetensors(files, path, sources);
}

const std::vector<int32_t> kTokens = {65, 66, 67, 68, 69, 10, 255, 0, 1, 2, 3, 4};

float scalar(const SafetensorsFile& file, const std::string& name) {
  float value = NAN;
  file.read(*file.find(name), std::as_writable_bytes(std::span(&value, 1)));
  return value;
}

}  // namespace

TEST_CASE("dump, --init and dump again give the same bits", "[train][commands]") {
  const SmallRun r;
  put_tokens(r / "tokens.safetensors", kTokens, 2);
  const std::string tokens = (r / "tokens.safetensors").string();
  const std::string first = (r / "first").string(), second = (r / "second").string();
  const Words common = {"loss.z_loss=1e-3", "model.bias={qkv: true, ffn: true, head: true}"};
  const Outcome a =
      run_program(Words{"dump", r.config(), "--tokens", tokens, "-o", first} + common);
  REQUIRE(a.code == 0);
  CHECK((a.out + a.err).empty());
  // Another seed: nothing but the file decides.
  const Outcome b = run_program(
      Words{"dump", r.config(), "--tokens", tokens, "--init", first, "-o", second, "run.seed=99"} +
      common);
  REQUIRE(b.code == 0);
  CHECK(contents_of(first) == contents_of(second));
  CHECK_FALSE(fs::exists(r / "runs"));

  const SafetensorsFile file(first);
  int64_t n_params = 0;
  for (const StoredTensor& t : file.tensors()) {
    if (t.name.rfind("param.", 0) != 0) continue;
    ++n_params;
    const StoredTensor* grad = file.find("grad." + t.name.substr(6));
    REQUIRE(grad != nullptr);
    CHECK(grad->shape == t.shape);
  }
  CHECK(n_params == 34);
  CHECK(file.tensors().size() == static_cast<size_t>(2 * n_params) + 6);
  CHECK(file.find("logits")->shape == std::vector<int64_t>{2, 5, 256});
  CHECK(file.find("targets")->shape == std::vector<int64_t>{2, 5});
  CHECK(file.find("tokens")->type == StoredType::I32);
  CHECK(scalar(file, "loss.z") > 0.0F);
  CHECK(scalar(file, "loss.total") ==
        Approx(scalar(file, "loss.ce") + scalar(file, "loss.z")).epsilon(1e-6));
}

TEST_CASE("every parameter that a configuration can name is dumped and read back",
          "[train][commands]") {
  const SmallRun r;
  put_tokens(r / "tokens.safetensors", kTokens, 2);
  const std::string tokens = (r / "tokens.safetensors").string();
  const std::string first = (r / "first").string(), second = (r / "second").string();
  const std::vector<Words> models = {
      {"model.norm={kind: layernorm, bias: true, placement: sandwich, embedding: true}",
       "model.position.kind=t5", "model.block.layer_scale=0.1",
       "model.attention={qk_norm: per_head, v_norm: true, sink: learned}",
       "model.bias={qkv: true, attn_out: true, ffn: true, head: true}"},
      {"model.norm={kind: dyt, bias: true, placement: post}", "model.position.kind=learned",
       "model.ffn.gated=false", "model.embedding.tie=true"},
      {"model.norm={kind: scalenorm, placement: output}", "model.block.topology=parallel",
       "model.attention.qk_norm=full"},
  };
  std::set<std::string> names;
  for (const Words& model : models) {
    CAPTURE(model);
    const Words dump = {"dump", r.config(), "--tokens", tokens, "-o"};
    REQUIRE(run_program(dump + Words{first} + model).code == 0);
    // Another seed: nothing but the file decides.
    REQUIRE(run_program(dump + Words{second, "--init", first, "run.seed=99"} + model).code == 0);
    CHECK(contents_of(first) == contents_of(second));
    const SafetensorsFile file(first);
    for (const StoredTensor& t : file.tensors()) {
      if (!t.name.starts_with("param.")) continue;
      std::string name = t.name.substr(6);
      if (name.starts_with("blocks.")) name.replace(7, 1, "i");
      names.insert(name);
      CHECK(file.find("grad." + t.name.substr(6)) != nullptr);
    }
  }
  std::set<std::string> expected = {
      "embedding.weight",    "position.weight",    "position.t5_bias", "blocks.i.attn.sink",
      "blocks.i.attn_scale", "blocks.i.ffn_scale", "head.weight",      "head.bias"};
  for (const char* map : {"attn.wq", "attn.wk", "attn.wv", "attn.wo", "attn.q_norm", "attn.k_norm",
                          "attn.v_norm", "ffn.w_gate", "ffn.w_up", "ffn.w_down", "attn_norm",
                          "ffn_norm", "attn_post_norm", "ffn_post_norm"}) {
    for (const char* part : {".weight", ".bias"}) {
      expected.insert(concat("blocks.i.", map, part));
    }
  }
  for (const char* norm : {"embedding_norm", "final_norm"}) {
    for (const char* part : {".weight", ".bias"}) expected.insert(std::string(norm) + part);
  }
  for (const char* norm : {"blocks.i.attn_post_norm", "blocks.i.ffn_post_norm", "final_norm"}) {
    expected.insert(std::string(norm) + ".alpha");
  }
  CHECK(names == expected);
}

TEST_CASE("dump of a run folder holds the weights of its checkpoint", "[train][commands]") {
  const SmallRun r;
  r.must_train({"train.checkpoint_every=6"});
  put_tokens(r / "tokens.safetensors", kTokens, 1);
  for (const int64_t step : {6, 12}) {
    const Outcome outcome =
        run_program({"dump", r.run().string(), "--step", std::to_string(step), "--tokens",
                     (r / "tokens.safetensors").string(), "-o", (r / "out").string()});
    REQUIRE(outcome.code == 0);
    const SafetensorsFile dump(r / "out"), model(r.checkpoint(step) / "model.safetensors");
    for (const StoredTensor& t : model.tensors()) {
      std::vector<float> saved(static_cast<size_t>(t.size())), dumped(saved.size());
      model.read(t, std::as_writable_bytes(std::span(saved)));
      dump.read(*dump.find("param." + t.name), std::as_writable_bytes(std::span(dumped)));
      CHECK(saved == dumped);
    }
  }
  // Trained weights serve as initial values too.
  r.must_train({"--name", "b", "--init", (r / "out").string()});
  CHECK(r.metrics("b")[0].at("train/ce").get<double>() < 5.4);
}

TEST_CASE("dump of a run passes a damaged checkpoint over with a warning", "[train][commands]") {
  const SmallRun r;
  r.must_train({"train.checkpoint_every=6"});
  flip_bit(r.checkpoint(12) / "model.safetensors");
  put_tokens(r / "tokens.safetensors", kTokens, 1);
  const Outcome outcome =
      run_program({"dump", r.run().string(), "--tokens", (r / "tokens.safetensors").string(), "-o",
                   (r / "out").string()});
  CHECK(outcome.code == 0);
  CHECK_THAT(outcome.err, ContainsSubstring("warning: ") && ContainsSubstring("step-00000012"));
}

TEST_CASE("dump and --init refuse files that do not fit in one line", "[train][commands]") {
  const SmallRun r;
  const auto file = [&](const char* name) { return (r / name).string(); };
  put_tokens(r / "good", kTokens, 2);
  put_tokens(r / "other_name", kTokens, 2, "token");
  put_tokens(r / "one_column", {1, 2}, 2);
  put_tokens(r / "large", {1, 2, 256, 4}, 2);
  put_tokens(r / "negative", {1, 2, -1, 4}, 2);
  put_tokens(r / "long", std::vector<int32_t>(40, 1), 1);
  put_contents(r / "text", "hello");
  const float one = 1.0F;
  FileSystem files;
  write_safetensors(files, r / "lacks",
                    std::vector<TensorSource>{{"x", StoredType::F32, {1}, &one}});
  struct Case {
    Words arguments;
    int code;
    std::string expected;
  };
  const Words learned = {"model.position.kind=learned"};
  const std::vector<Case> cases = {
      {{"--tokens", file("none")}, 5, "none: cannot open: No such file"},
      {{"--tokens", file("text")}, 3, "text: not a valid safetensors file"},
      {{"--tokens", file("other_name")},
       3,
       "expected a tensor 'tokens' of int32 with shape (B, T+1)"},
      {{"--tokens", file("one_column")}, 3, "expected a tensor 'tokens'"},
      {{"--tokens", file("large")}, 3, "token 256 at position 2; expected 0 <= token < 256"},
      {{"--tokens", file("negative")}, 3, "token -1 at position 2"},
      {learned + Words{"--tokens", file("long")}, 3, "39 tokens a row"},
      {{"--tokens", file("good"), "--init", file("lacks")}, 3, "lacks: lacks parameter "},
      {{"--tokens", file("good"), "--init", file("none")}, 5, "none: cannot open: No such file"},
      {{}, 2, "--tokens is required"},
  };
  for (const Case& c : cases) {
    CAPTURE(c.arguments);
    const Outcome outcome = run_program(Words{"dump", r.config(), "-o", file("out")} + c.arguments);
    CHECK(outcome.code == c.code);
    CHECK_THAT(outcome.err, ContainsSubstring(c.expected));
    CHECK(is_one_line(outcome.err));
    CHECK_FALSE(fs::exists(r / "out"));
  }
  const Outcome unwritable =
      run_program({"dump", r.config(), "--tokens", file("good"), "-o", "/proc/none/out"});
  CHECK(unwritable.code == 5);
  CHECK(is_one_line(unwritable.err));
  // The same file is refused by train, before a folder is made.
  const Outcome train = r.train({"--init", file("lacks")});
  CHECK(train.code == 3);
  CHECK(is_one_line(train.err));
  CHECK_FALSE(fs::exists(r / "runs"));
}

}  // namespace ballast
