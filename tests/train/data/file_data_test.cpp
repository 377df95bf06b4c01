#include "train/data/file_data.h"

#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/catch.h"
#include "tests/train/data/support.h"

namespace ballast {
namespace {

DataConfig text_config(std::vector<std::string> train, int64_t seq_len = 4) {
  DataConfig config;
  config.train = std::move(train);
  config.seq_len = seq_len;
  return config;
}

DataConfig token_config(std::vector<std::string> train, int64_t seq_len = 2) {
  DataConfig config = text_config(std::move(train), seq_len);
  config.source = DataKind::tokens;
  config.val_fraction = 0.5;
  return config;
}

std::string read_text(const DataSource& data, Split split, int64_t index, size_t n) {
  std::vector<int32_t> tokens(n);
  data.window(split, index, tokens);
  return {tokens.begin(), tokens.end()};
}

/// Throws the error that opening a text file of this content gives.
void open_text(const DataFolder& folder, const std::string& content, int64_t seq_len = 4,
               int64_t vocab_size = 256) {
  open_data(text_config({folder.write("bad.txt", content)}, seq_len), vocab_size, 0);
}

TEST_CASE("a text is cut 90 to 10 where nanoGPT cuts it", "[train][data][files]") {
  const DataFolder folder;
  // tinyshakespeare has 1115394 bytes; int(n * 0.9) of it is 1003854.
  const auto path = folder.write("text", std::string(1115394, 'x'));
  const auto data = open_data(text_config({path}), 256, 0);
  CHECK(data->n_tokens(Split::train) == 1003854);
  CHECK(data->n_tokens(Split::val) == 111540);
  CHECK(data->bytes_per_token() == 1.0);
  CHECK(data->floor(64) == std::nullopt);
}

TEST_CASE("several files are joined in order, and windows cross their borders",
          "[train][data][files]") {
  const DataFolder folder;
  const int64_t copy_limit = GENERATE(int64_t{0}, MappedFile::kCopyLimit);  // mapped, copied
  DataConfig config =
      text_config({folder.write("a", "abc"), folder.write("b", "d"), folder.write("c", "efghij")});
  config.val = {folder.write("v", "KLMNO"), folder.write("w", "PQ")};
  const FileData data(config, 256, {}, copy_limit);
  CHECK(data.n_tokens(Split::train) == 10);
  CHECK(data.n_tokens(Split::val) == 7);
  CHECK(read_text(data, Split::train, 0, 10) == "abcdefghij");
  CHECK(read_text(data, Split::train, 2, 3) == "cde");
  CHECK(read_text(data, Split::train, 9, 1) == "j");
  CHECK(read_text(data, Split::val, 0, 7) == "KLMNOPQ");
  CHECK(read_text(data, Split::val, 4, 2) == "OP");
  CHECK_THROWS_WITH(read_text(data, Split::train, 8, 3),
                    "[window] tokens 8 to 11 of a split of 10");
}

TEST_CASE("the validation split never overlaps the training split", "[train][data][files]") {
  const DataFolder folder;
  DataConfig config = text_config({folder.write("a", "abcdefghijklmnopqrst")}, 3);
  config.val_fraction = 0.25;
  const auto data = open_data(config, 256, 0);
  CHECK(read_text(*data, Split::train, 0, 15) == "abcdefghijklmno");
  CHECK(read_text(*data, Split::val, 0, 5) == "pqrst");
}

TEST_CASE("paths are looked for beside the configuration first", "[train][data][files]") {
  const DataFolder folder;
  folder.write("text", std::string(100, 'a'));
  const auto data = open_data(text_config({"text"}), 256, 0, folder.path());
  CHECK(read_text(*data, Split::train, 0, 2) == "aa");
  CHECK_THROWS_WITH(open_data(text_config({"nothing"}), 256, 0, folder.path()),
                    "nothing: no such file, neither beside the configuration (" +
                        (folder.path() / "nothing").string() + ") nor in the working directory");
}

TEST_CASE("token files are little-endian uint16", "[train][data][files]") {
  const DataFolder folder;
  const auto path = folder.write("ids.bin", le16({1, 258, 50256, 4, 5, 65535}));
  const auto data = open_data(token_config({path}), 65536, 0);
  std::vector<int32_t> tokens(3);
  data->window(Split::train, 0, tokens);
  CHECK(tokens == std::vector<int32_t>{1, 258, 50256});
  data->window(Split::val, 0, tokens);
  CHECK(tokens == std::vector<int32_t>{4, 5, 65535});
  CHECK(data->bytes_per_token() == std::nullopt);
}

TEST_CASE("files that cannot be data are refused with the reason", "[train][data][files]") {
  const DataFolder folder;
  const std::string missing = (folder.path() / "missing.txt").string();
  const auto open = [](const std::string& path) { open_data(text_config({path}), 256, 0); };
  CHECK_THROWS_AS(open(missing), DataError);
  CHECK_THROWS_WITH(open(missing), missing + ": no such file");
  const std::string empty = folder.write("empty.txt", "");
  CHECK_THROWS_AS(open(empty), DataError);
  CHECK_THROWS_WITH(open(empty), empty + ": is empty; expected data");
  const std::string directory = folder.path().string();
  CHECK_THROWS_AS(open(directory), DataError);
  CHECK_THROWS_WITH(open(directory), directory + ": is a directory; expected a file");
  const std::string pipe = (folder.path() / "pipe").string();
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  CHECK_THROWS_AS(open(pipe), DataError);
  CHECK_THROWS_WITH(open(pipe), pipe + ": is not a regular file; expected a file");
  CHECK_THROWS_AS(open(std::string(300, 'x')), IoError);
  CHECK_THROWS_WITH(open(std::string(300, 'x')), ContainsSubstring("cannot be read: "));
  if (::geteuid() != 0) {  // root reads everything
    const std::string secret = folder.write("secret.txt", "text");
    REQUIRE(::chmod(secret.c_str(), 0) == 0);
    CHECK_THROWS_AS(open(secret), IoError);
    CHECK_THROWS_WITH(open(secret), secret + ": cannot be read: Permission denied");
  }
}

TEST_CASE("a split shorter than one window is refused with both numbers", "[train][data][files]") {
  const DataFolder folder;
  CHECK_THROWS_AS(open_text(folder, "abcd"), DataError);
  CHECK_THROWS_WITH(
      open_text(folder, "abcd"),
      "data.train: the training split has 3 tokens; expected at least data.seq_len + 1 "
      "= 5");
  // 49 bytes leave 44 for training and 5 for validation, which is just enough; 40 leave 4.
  CHECK_NOTHROW(open_text(folder, std::string(49, 'a')));
  CHECK_THROWS_WITH(
      open_text(folder, std::string(40, 'a')),
      "data.val: the validation split has 4 tokens; expected at least data.seq_len + 1 "
      "= 5 (data.val_fraction = 0.1 of 40)");
  DataConfig config = text_config({folder.write("a", "abcdefgh")});
  config.val = {folder.write("b", "xyz")};
  CHECK_THROWS_WITH(
      open_data(config, 256, 0),
      "data.val: the validation split has 3 tokens; expected at least data.seq_len + 1 "
      "= 5");
}

TEST_CASE("text that is not UTF-8 is refused with its place", "[train][data][files]") {
  const DataFolder folder;
  const std::string path = (folder.path() / "bad.txt").string();
  const std::string latin1 = concat("first\nsecond caf\xE9 au lait", std::string(100, '.'));
  CHECK_THROWS_AS(open_text(folder, latin1), DataError);
  CHECK_THROWS_WITH(open_text(folder, latin1),
                    path + ": byte 16, on line 2, is not valid UTF-8; expected text in UTF-8");
}

TEST_CASE("ids outside the vocabulary are refused with file, place and id",
          "[train][data][files]") {
  const DataFolder folder;
  const std::string path = folder.write("ids.bin", le16({1, 2, 99, 300, 5, 400}));
  CHECK_THROWS_AS(open_data(token_config({path}), 300, 0), DataError);
  CHECK_THROWS_WITH(open_data(token_config({path}), 300, 0),
                    path + ": token 3 has the id 300; expected ids below model.vocab_size = 300");
  CHECK_NOTHROW(open_data(token_config({path}), 401, 0));
  const std::string odd = folder.write("odd.bin", "abcdefg");
  CHECK_THROWS_AS(open_data(token_config({odd}), 65536, 0), DataError);
  CHECK_THROWS_WITH(open_data(token_config({odd}), 65536, 0),
                    odd + ": has 7 bytes; expected an even number, two for each token");
  const std::string text = std::string(100, 'A').append(1, 'z');
  CHECK_THROWS_WITH(open_text(folder, text, 4, 100),
                    ContainsSubstring("token 100 has the id 122; expected ids below "
                                      "model.vocab_size = 100"));
}

TEST_CASE("a mapped file that is cut short gives an error instead of a signal",
          "[train][data][files]") {
  const DataFolder folder;
  const std::string path = folder.write("text", std::string(100000, 'a'));
  const FileData mapped(text_config({path}), 256, {}, 1000);
  const FileData copied(text_config({path}), 256, {});
  std::filesystem::resize_file(path, 10);
  CHECK_THROWS_AS(read_text(mapped, Split::train, 50000, 5), DataError);
  CHECK_THROWS_WITH(
      read_text(mapped, Split::train, 50000, 5),
      path + ": has 10 bytes but had 100000 when it was opened; restore it and resume");
  CHECK(read_text(copied, Split::train, 50000, 5) == "aaaaa");
}

TEST_CASE("the fingerprint notices every byte, every border and nothing else",
          "[train][data][files]") {
  const DataFolder folder;
  std::string content(1000, 'a');
  const auto print = [&](const std::string& name, double val_fraction) {
    DataConfig config = text_config({folder.write(name, content)});
    config.val_fraction = val_fraction;
    return open_data(config, 256, 0)->fingerprint();
  };
  const uint64_t original = print("a", 0.1);
  CHECK(print("b", 0.1) == original);
  CHECK(print("a", 0.2) != original);
  for (const size_t place : {size_t{0}, size_t{31}, size_t{500}, size_t{999}}) {
    content[place] = 'b';
    CHECK(print("a", 0.1) != original);
    content[place] = 'a';
  }
  content += 'a';
  CHECK(print("a", 0.1) != original);
}

}  // namespace
}  // namespace ballast
