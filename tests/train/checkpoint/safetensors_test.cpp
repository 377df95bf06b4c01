#include "train/checkpoint/safetensors.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/error.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"
#include "train/checkpoint/init_file.h"

namespace ballast {

namespace {

std::string file_of(const std::string& header, const std::string& data) {
  const uint64_t length = header.size();
  std::string text(sizeof(length), '\0');
  std::memcpy(text.data(), &length, sizeof(length));
  return text + header + data;
}

/// The reason the reader gives for refusing a file, or "" if it accepts it.
std::string refusal(const std::string& bytes) {
  const TemporaryFolder folder;
  put_contents(folder / "x", bytes);
  try {
    const SafetensorsFile file(folder / "x");
    return "";
  } catch (const DataError& e) {
    return e.what();
  }
}

std::string refusal(const std::string& header, const std::string& data) {
  return refusal(file_of(header, data));
}

}  // namespace

TEST_CASE("written tensors are read back bit for bit", "[train][safetensors]") {
  const TemporaryFolder folder;
  std::vector<float> weight = {1.0f, -0.0f, 1e-45f, std::numeric_limits<float>::max(), 3.25f, 0.1f};
  std::vector<double> moment = {0.1, -1e-300};
  std::vector<bf16> half = {bf16(1.5f)};
  const std::vector<int32_t> tokens = {7, -1};
  std::vector<float> nothing;
  const TensorSource sources[] = {
      {"b.weight", Tensor(weight.data(), {2, 3}, Dtype::f32)},
      {"a.moment", Tensor(moment.data(), {2}, Dtype::f64)},
      {"scalar", Tensor(half.data(), {}, Dtype::bf16)},
      {"tokens", StoredType::I32, {1, 2}, tokens.data()},
      {"empty", Tensor(nothing.data(), {0, 4}, Dtype::f32)},
  };
  FileSystem files;
  write_safetensors(files, folder / "t.safetensors", sources);

  const SafetensorsFile file(folder / "t.safetensors");
  CHECK(file.metadata().at("format") == "pt");
  REQUIRE(file.tensors().size() == 5);
  CHECK(file.tensors().front().name == "a.moment");  // the widest type first
  CHECK(file.tensors().front().begin % 8 == 0);
  std::vector<float> weight_back(6);
  file.read(*file.find("b.weight"), Tensor(weight_back.data(), {2, 3}, Dtype::f32));
  CHECK(std::memcmp(weight.data(), weight_back.data(), 24) == 0);
  std::vector<double> moment_back(2);
  file.read(*file.find("a.moment"), Tensor(moment_back.data(), {2}, Dtype::f64));
  CHECK(moment_back == moment);
  std::vector<int32_t> tokens_back(2);
  CHECK(file.find("tokens")->type == StoredType::I32);
  CHECK(file.find("tokens")->shape == std::vector<int64_t>{1, 2});
  file.read(*file.find("tokens"), std::as_writable_bytes(std::span(tokens_back)));
  CHECK(tokens_back == tokens);
  CHECK(file.find("empty")->size() == 0);
  CHECK(file.find("scalar")->shape.empty());
  CHECK(file.find("none") == nullptr);

  float converted = 0.0f;
  file.read(*file.find("scalar"), Tensor(&converted, {}, Dtype::f32));
  CHECK(converted == 1.5f);
  CHECK_THROWS_WITH(file.read(*file.find("tokens"), Tensor(weight_back.data(), {1, 2}, Dtype::f32)),
                    ContainsSubstring("tokens is I32; expected F32"));
  CHECK_THROWS_WITH(
      file.read(*file.find("b.weight"), Tensor(weight_back.data(), {3, 2}, Dtype::f32)),
      ContainsSubstring("b.weight is (2, 3); expected (3, 2)"));
}

TEST_CASE("the writer refuses two tensors of one name", "[train][safetensors]") {
  const TemporaryFolder folder;
  float x = 0.0f;
  const Tensor t(&x, {1}, Dtype::f32);
  const TensorSource twice[] = {{"a", t}, {"a", t}};
  FileSystem files;
  CHECK_THROWS_WITH(write_safetensors(files, folder / "t", twice),
                    "[safetensors] two tensors are called a");
  CHECK_FALSE(path_exists(folder / "t"));
  CHECK_FALSE(path_exists(folder / "t.tmp"));
}

TEST_CASE("a NaN or an infinity is found in every floating type", "[train][safetensors]") {
  const TemporaryFolder folder;
  const float inf = std::numeric_limits<float>::infinity();
  std::vector<float> f = {1.0f, inf};
  std::vector<double> d = {1.0, std::nan("")};
  std::vector<bf16> b = {bf16(1.0f), bf16(-inf)};
  const std::vector<uint16_t> h = {0x3c00, 0x7c00};     // 1, inf
  const std::vector<uint16_t> h_ok = {0x7bff, 0x8001};  // 65504, the least negative number
  const std::vector<int32_t> i = {0x7f800000, -1};
  const TensorSource sources[] = {
      {"f", Tensor(f.data(), {2}, Dtype::f32)},  {"f_ok", Tensor(f.data(), {1}, Dtype::f32)},
      {"d", Tensor(d.data(), {2}, Dtype::f64)},  {"d_ok", Tensor(d.data(), {1}, Dtype::f64)},
      {"b", Tensor(b.data(), {2}, Dtype::bf16)}, {"b_ok", Tensor(b.data(), {1}, Dtype::bf16)},
      {"h", StoredType::F16, {2}, h.data()},     {"h_ok", StoredType::F16, {2}, h_ok.data()},
      {"i_ok", StoredType::I32, {2}, i.data()},
  };
  FileSystem files;
  write_safetensors(files, folder / "t", sources);
  const SafetensorsFile file(folder / "t");
  for (const StoredTensor& t : file.tensors()) {
    CAPTURE(t.name);
    CHECK(file.has_non_finite(t) == (t.name.size() == 1));
  }
  std::vector<double> values(2);
  file.read(*file.find("h_ok"), Tensor(values.data(), {2}, Dtype::f64));
  CHECK(values[0] == 65504.0);
  CHECK(values[1] == -std::ldexp(1.0, -24));
}

TEST_CASE("a well-formed file is accepted with trailing spaces and no tensors",
          "[train][safetensors]") {
  CHECK(refusal("{}", "") == "");
  CHECK(refusal("{}      ", "") == "");
  CHECK(refusal(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})", "xy") == "");
  CHECK(refusal(R"({"b":{"dtype":"U8","shape":[1],"data_offsets":[1,2]},)"
                R"("a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
                "xy") == "");
  CHECK(refusal(R"({"b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
                R"("z":{"dtype":"U8","shape":[0,18446744073709551],"data_offsets":[0,0]}})",
                "xy") == "");
}

TEST_CASE("hostile headers are refused", "[train][safetensors]") {
  struct Case {
    const char* header;
    const char* data;
    const char* reason;
  };
  const auto c = GENERATE(
      Case{"", "", "does not begin with '{'"}, Case{" {}", "", "does not begin with '{'"},
      Case{"[]", "", "does not begin with '{'"}, Case{"{", "", "not JSON"},
      Case{"{}x", "", "not JSON"}, Case{"{}{}", "", "not JSON"},
      Case{"{\"\xff\":1}", "", "not JSON"}, Case{"{}", "x", "has 1 bytes of data"},
      Case{R"({"a":1})", "", "wrong kind"}, Case{R"({"a":{}})", "", "lacks dtype"},
      Case{R"({"a":{"dtype":"U8","shape":[1]}})", "x", "lacks data_offsets"},
      Case{R"({"a":{"dtype":"U8","shape":1,"data_offsets":[0,1]}})", "x", "wrong kind"},
      Case{R"({"a":{"dtype":"U8","shape":[1.0],"data_offsets":[0,1]}})", "x", "wrong kind"},
      Case{R"({"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}})", "x", "wrong kind"},
      Case{R"({"a":{"dtype":"U8","shape":[[1]],"data_offsets":[0,1]}})", "x", "unexpected array"},
      Case{R"({"a":{"dtype":["U8"],"shape":[1],"data_offsets":[0,1]}})", "x", "unexpected array"},
      Case{R"({"a":{"dtype":{},"shape":[1],"data_offsets":[0,1]}})", "x", "wrong kind"},
      Case{R"({"a":{"dtype":"X8","shape":[1],"data_offsets":[0,1]}})", "x", "unknown dtype 'X8'"},
      Case{R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0]}})", "x", "needs two numbers"},
      Case{R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1,2]}})", "x", "more than two"},
      Case{R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[1,0]}})", "x",
           "end before they begin"},
      Case{R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,1]}})", "x", "has 2 bytes"},
      Case{R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,1]}})", "x", "has 4 bytes"},
      Case{R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":0}})", "x",
           "unknown key 'x'"},
      Case{R"({"a":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}})", "x",
           "duplicate key 'dtype'"},
      // Sizes that overflow, to zero and to a small number.
      Case{R"({"a":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,0]}})", "",
           "overflows"},
      Case{R"({"a":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", "",
           "overflows"},
      Case{R"({"a":{"dtype":"U8","shape":[9223372036854775809,2],"data_offsets":[0,2]}})", "xy",
           "exceeds 2^63"},
      Case{
          R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[18446744073709551615,18446744073709551615]}})",
          "x", "exceeds 2^63"},
      Case{
          R"({"a":{"dtype":"U8","shape":[9000000000000000000],"data_offsets":[0,9000000000000000000]}})",
          "x", "ends after the end of the file"},
      // Holes, overlaps, bytes that belong to nobody.
      Case{R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})", "xy", "begins at 1"},
      Case{R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "xy", "its tensors take 1"},
      Case{R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
           R"("b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
           "xyz", "begins at 1 but the tensor before it ends at 2"},
      Case{R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
           R"("b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})",
           "xy", "begins at 0 but the tensor before it ends at 2"},
      // Names that two parsers would resolve differently; \u0061 is a.
      Case{R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
           R"("\u0061":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
           "xy", "duplicate name 'a'"},
      Case{R"({"__metadata__":{"a":"1","a":"2"}})", "", "duplicate key 'a'"},
      Case{R"({"__metadata__":{"a":1}})", "", "wrong kind"},
      Case{R"({"__metadata__":{"a":{}}})", "", "wrong kind"},
      Case{R"({"__metadata__":{},"__metadata__":{}})", "", "duplicate name"});
  CAPTURE(c.header);
  const std::string reason = refusal(c.header, c.data);
  CHECK_THAT(reason, ContainsSubstring("not a valid safetensors file: "));
  CHECK_THAT(reason, ContainsSubstring(c.reason));
}

TEST_CASE("lengths that the file does not bear out are refused", "[train][safetensors]") {
  CHECK_THAT(refusal(""), ContainsSubstring("has 0 bytes"));
  CHECK_THAT(refusal("1234567"), ContainsSubstring("has 7 bytes; expected at least 8"));
  CHECK_THAT(refusal(std::string(8, '\xff')), ContainsSubstring("expected at most 100000000"));
  CHECK_THAT(refusal(std::string("\x00\xe1\xf5\x05\0\0\0\0{}", 10)),
             ContainsSubstring("its header has 100000000 bytes but the file has 10"));
  CHECK_THAT(refusal(file_of(std::string("{}\0garbage", 10), "")), ContainsSubstring("NUL byte"));
  std::string deep = "{\"a\":" + std::string(1 << 20, '{');
  CHECK_THAT(refusal(file_of(deep, "")), ContainsSubstring("not a valid safetensors file"));
}

TEST_CASE("reasons stay on one line whatever a name holds", "[train][safetensors]") {
  const std::string reason = refusal(R"({"a\n\u001b[2J":{"dtype":"U8"}})", "");
  CHECK_THAT(reason, ContainsSubstring("a??[2J: lacks shape"));
  CHECK(reason.find('\n') == std::string::npos);
}

TEST_CASE("no bit flip of a header yields other numbers under the same name",
          "[train][safetensors]") {
  const TemporaryFolder folder;
  std::vector<float> w = {1.0f, 2.0f, 3.0f, 4.0f, 5.0f, 6.0f};
  std::vector<double> m = {7.0, 8.0};
  const TensorSource sources[] = {{"w", Tensor(w.data(), {2, 3}, Dtype::f32)},
                                  {"m", Tensor(m.data(), {2, 1}, Dtype::f64)}};
  FileSystem files;
  write_safetensors(files, folder / "t", sources);
  const std::string original = contents_of(folder / "t");
  uint64_t length = 0;
  std::memcpy(&length, original.data(), 8);
  int refused = 0;
  for (size_t byte = 0; byte < 8 + length; ++byte) {
    for (unsigned bit = 0; bit < 8; ++bit) {
      CAPTURE(byte, bit);
      std::string flipped = original;
      flipped[byte] = static_cast<char>(static_cast<unsigned char>(flipped[byte]) ^ (1U << bit));
      put_contents(folder / "f", flipped);
      try {
        const SafetensorsFile file(folder / "f");
        // What is left is a flip inside a name or the metadata.
        for (const StoredTensor& t : file.tensors()) {
          const bool is_m = t.begin == static_cast<int64_t>(8 + length);
          CHECK(t.type == (is_m ? StoredType::F64 : StoredType::F32));
          CHECK(t.shape == (is_m ? std::vector<int64_t>{2, 1} : std::vector<int64_t>{2, 3}));
          CHECK((t.name == (is_m ? "m" : "w") || file.find(is_m ? "m" : "w") == nullptr));
        }
      } catch (const DataError&) {
        ++refused;
      }
    }
  }
  // All but the 2 names and "format", "pt": of those flips some make no JSON either.
  CHECK(refused >= static_cast<int>(8 * (8 + length) - 8 * (2 + 6 + 2 + 12)));
}

TEST_CASE("an init file sets every parameter or none", "[train][safetensors]") {
  const TemporaryFolder folder;
  ParameterStore store;
  store.add("a.weight", {2, 2}, Role::linear);
  store.add("b.bias", {2}, Role::bias);
  store.allocate(Dtype::f32);
  std::vector<double> a = {1.0, 2.0, 3.0, 0.1};
  std::vector<float> b = {5.0f, 6.0f};
  FileSystem files;
  const auto write = [&](const char* b_name, const Shape& b_shape) {
    const TensorSource sources[] = {{"a.weight", Tensor(a.data(), {2, 2}, Dtype::f64)},
                                    {b_name, Tensor(b.data(), b_shape, Dtype::f32)},
                                    {"grad.b.bias", Tensor(b.data(), {1}, Dtype::f32)}};
    write_safetensors(files, folder / "i", sources);
  };
  write("b.weight", {2});
  CHECK_THROWS_WITH(load_init_file(folder / "i", store),
                    ContainsSubstring("lacks parameter b.bias (2)"));
  write("b.bias", {1, 2});
  CHECK_THROWS_WITH(
      load_init_file(folder / "i", store),
      ContainsSubstring("parameter b.bias is (1, 2) in the file but (2) in the model"));
  CHECK(store.find("a.weight")->value.data<float>()[0] == 0.0f);
  write("param.b.bias", {2});
  load_init_file(folder / "i", store);
  CHECK(store.find("a.weight")->value.data<float>()[3] == 0.1f);
  CHECK(store.find("b.bias")->value.data<float>()[1] == 6.0f);
}

}  // namespace ballast
