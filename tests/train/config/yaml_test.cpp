#include "train/config/yaml.h"

#include <ctime>
#include <filesystem>
#include <fstream>
#include <limits>

#include "core/error.h"
#include "tests/support/catch.h"

namespace ballast {
namespace {

/// The message of the ConfigError that parsing throws, or "accepted: …".
std::string message_of(const std::string& text) {
  try {
    return concat("accepted: ", flow_text(parse_yaml(text, "f.yaml"), 200));
  } catch (const ConfigError& e) {
    return e.what();
  }
}

struct Case {
  std::string text;
  const char* expected;
};

}  // namespace

TEST_CASE("a YAML tree keeps text, quoting, order and places", "[train][yaml]") {
  const YamlNode root = parse_yaml("b: [1, 'x y', ~]\na:\n  c: {d: \"e\"} # why\n", "f.yaml");
  REQUIRE(root.kind == YamlNode::Kind::map);
  REQUIRE(root.entries.size() == 2);
  CHECK(root.entries[0].key == "b");
  const YamlNode& list = root.entries[0].value;
  REQUIRE(list.items.size() == 3);
  CHECK(list.items[0].text == "1");
  CHECK_FALSE(list.items[0].quoted);
  CHECK(list.items[1].text == "x y");
  CHECK(list.items[1].quoted);
  CHECK(list.items[1].at.str() == "f.yaml:1:8");
  CHECK(list.items[2].kind == YamlNode::Kind::null);
  const YamlNode& d = root.find("a")->value.find("c")->value.find("d")->value;
  CHECK(d.at.str() == "f.yaml:3:10");
  CHECK(root.find("c") == nullptr);
}

TEST_CASE("YAML that other readers take differently or in silence is refused in its place",
          "[train][yaml]") {
  const std::vector<Case> cases = {
      {"a: 1\nb: 2\na: 3\n", "f.yaml:3:1: duplicate key 'a'; it is already set in line 1"},
      {"'a': 1\na: 2\n", "f.yaml:2:1: duplicate key 'a'"},
      {"a: {b: 1, b: 2}\n", "f.yaml:1:11: duplicate key 'b'"},
      {"a: 1\n...\nb: 2\n", "f.yaml:3:1: more content after the end of the document"},
      {"a: 1\n... b\n", "f.yaml:2:5: more content after the end"},
      {"a: 1\n---\nb: 2\n", "f.yaml:2:1: more content after the end"},
      {"a: 1\n---", "f.yaml:2:1: more content after the end"},
      {"---\n---\na: 1\n", "more content after the end"},
      {"{a: 1} {b: 2}\n", "f.yaml:1:8: more content after the end"},
      {"{a: 1}\nb: 2\n", "f.yaml:2:1: more content after the end"},
      {"  a: 1\nb: 2\n", "f.yaml:2:1: more content after the end"},
      {"- 1\n- 2\na: 3\n", "f.yaml:3:1: more content after the end"},
      {"\"a\":1\n", "f.yaml:1:4: more content after the end"},
      {"a: &x 1\nb: *x\n", "f.yaml:1:4: a YAML anchor"},
      {"a: &x {c: 1}\nb: *x\n", "a YAML anchor"},
      {"&x a: 1\n", "a YAML anchor"},
      {"a: *x\n", "f.yaml:1:4: not valid YAML"},
      {"a: !!str 1\n", "f.yaml:1:4: a YAML tag"},
      {"a: !foo {b: 1}\n", "a YAML tag"},
      {"a: ! 1\n", "a YAML tag"},
      {"a: !!python/object:os.system x\n", "a YAML tag"},
      {"<<: {a: 1}\n", "f.yaml:1:1: a merge key '<<'; expected 'extends: file'"},
      {"%YAML 1.1\n---\na: 1\n", "f.yaml:1:1: a YAML directive"},
      {"# c\n%TAG ! x\n---\na: 1\n", "f.yaml:2:1: a YAML directive"},
      {"? a\n: 1\n", "'a' is not followed by ':'"},
      {"? [a]\n: 1\n", "a key that is a list or a mapping"},
      {"? {a: 1}\n: 1\n", "a key that is a list or a mapping"},
      {"~: 1\n", "a missing key"},
      {": 1\n", "a missing key"},
      {"{,}\n", "a missing key"},
      {"a: 1\nrun\n", "f.yaml:2:1: 'run' is not followed by ':'"},
      {"{a}\n", "'a' is not followed by ':'"},
      {"a: {b 1}\n", "'b 1' is not followed by ':'"},
      {"{a:1}\n", "'a:1' is not followed by ':'"},
      {"a: \"x\n", "f.yaml:1:4: this quote is never closed"},
      {"a: 'x''\n", "f.yaml:1:4: this quote is never closed"},
      {"a: \"x\\\"\n", "this quote is never closed"},
      {"a: x\n  y\n", "f.yaml:1:4: an unquoted value runs over several lines"},
      {"a:\n- 1\n -2\n", "f.yaml:2:3: an unquoted value runs over several lines"},
      {"a:\n- 1\n - 2\n", "an unquoted value runs over several lines"},
      {"a: 1\nb:2\nc: 3\n", "f.yaml:"},
      {"a: 1\n  b: 2\n", "f.yaml:"},
      {"a: 1 b: 2\n", "not valid YAML"},
      {"a: b: c\n", "not valid YAML"},
      {"a:\n  b: 1\n c: 2\n", "not valid YAML"},
      {"a: [1, 2\n",
       "f.yaml:1:8: a pair without braces inside a list, or a list that is never closed"},
      {"a: [b: 1]\n", "f.yaml:1:5: a pair without braces inside a list"},
      {"a: {b: 1\n", "not valid YAML"},
      {"a: [1}\n", "not valid YAML"},
      {"a: @x\n", "not valid YAML"},
      {"a:\n\tb: 1\n", "f.yaml:2:1: a tab in the indentation"},
      {"a:\n  \tb: 1\n", "f.yaml:2:3: a tab in the indentation"},
      {"a: 1\rb: 2\n", "f.yaml:1:5: a lone carriage return"},
      {"a: 1\n\x04 x: [\n", "f.yaml:2:1: control character 0x04"},
      {"a: \x1b[31m\n", "control character 0x1B"},
      {"a: \"\\0\"\n", "f.yaml:1:4: an escaped NUL character"},
      {"a: \"\\q\"\n", "not valid YAML"},
      {"a: \xff\n", "f.yaml:1:4: invalid UTF-8"},
      {"a: \xc0\xaf\n", "invalid UTF-8"},
      {"a: \xed\xa0\x80\n", "invalid UTF-8"},
      {"a: \xf4\x90\x80\x80\n", "invalid UTF-8"},
      {"a: \xe2\x82", "invalid UTF-8"},
      {"a: \xef\xbb\xbf\n", "f.yaml:1:4: a byte order mark inside the text"},
      {std::string("a: 1\0b", 6), "f.yaml:1:5: control character 0x00"},
      {std::string("\xff\xfe:\0", 4), "invalid UTF-8"},
      {std::string("a\0:\0 \0", 6), "control character 0x00"},
  };
  for (const Case& c : cases) {
    CAPTURE(c.text);
    CHECK_THAT(message_of(c.text), ContainsSubstring(c.expected));
    CHECK(message_of(c.text).find('\n') == std::string::npos);
  }
}

TEST_CASE("ordinary YAML is accepted in all its forms", "[train][yaml]") {
  const std::vector<Case> cases = {
      {"\xef\xbb\xbf"
       "a: 1\r\nb: \"x\"\r\n",
       "{a: 1, b: 'x'}"},
      {"---\na: 1\n...\n", "{a: 1}"},
      {"# only a comment\n\na : 1 # c\n", "{a: 1}"},
      {"\t\n\t# c\na: 1\n", "{a: 1}"},
      {"a:\n- 1\n- [2, 3]\nb: {c: d,\n  e: f}\n", "{a: [1, [2, 3]], b: {c: d, e: f}}"},
      {"a:\nb: null\nc: ~\n", "{a: null, b: null, c: null}"},
      {"a: {}\nb: []\n", "{a: {}, b: []}"},
      {"a: 'it''s'\nb: \"\\u00e9 \\\"q\\\"\"\n", "{a: 'it's', b: 'é \"q\"'}"},
      {"'a b': é\n\"c\": http://x/#y\n", "{a b: é, c: http://x/#y}"},
      {"a: |\n  x\n  y\n", "{a: 'x\\ny\\n'}"},
      {"a: \"x\n  y\"\nb: 1\n", "{a: 'x y', b: 1}"},
      {"{\"a\":1, b: 2}", "{a: 1, b: 2}"},
      {"", "null"},
      {"# nothing\n", "null"},
  };
  for (const Case& c : cases) {
    CAPTURE(c.text);
    CHECK(message_of(c.text) == std::string("accepted: ") + c.expected);
  }
}

TEST_CASE("a hostile YAML document is an error within a second", "[train][yaml]") {
  const auto repeat = [](const std::string& text, size_t n) {
    std::string out;
    for (size_t i = 0; i < n; ++i) out += text;
    return out;
  };
  std::string indented;
  for (size_t i = 0; i < 1000; ++i) indented += concat(std::string(i, ' '), "a:\n");
  std::string aliases = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n";
  for (int i = 1; i < 10; ++i) {
    aliases += concat("a", i, ": &a", i, " [", repeat(concat("*a", i - 1, ","), 9), "]\n");
  }
  const std::vector<std::string> documents = {
      repeat("[", 200000),
      repeat("{a: ", 100000),
      repeat("- ", 200000),
      repeat("? ", 200000),
      repeat("{", 1 << 20),
      repeat("[[{", 100000),
      repeat("- - [", 9000),
      repeat("a: 1\n", 200000),
      repeat("[a],", 100000),
      repeat(": ", 200000),
      repeat("---\n", 200000),
      repeat("'", (1 << 20) - 1),
      repeat("\"\\", 300000),
      repeat("!", 1 << 20),
      repeat("&a ", 300000),
      repeat("*a ", 300000),
      repeat("|\n", 300000),
      repeat("#\n", 500000) + "[",
      indented,
      aliases,
      concat("[", repeat("a: b, ", 150000)),
      concat("{", repeat("a b c, ", 140000)),
      repeat("x ", 400000) + ": 1",
      repeat("- |\n", 200000),
      repeat("%", 1 << 20),
      repeat("x", (1 << 20) + 1),
      repeat("- !!a\n", 100000),
      repeat("...\n", 200000) + "[",
      repeat("}", 1000),
      repeat("a:\n ", 200000),
      repeat("- a\n", 200000),
  };
  for (const std::string& text : documents) {
    CAPTURE(text.substr(0, 20));
    const std::clock_t begin = std::clock();
    const std::string message = message_of(text);
    const std::clock_t end = std::clock();
    CHECK(message.substr(0, 6) == "f.yaml");
    CHECK(message.size() < 300);
    CHECK((end - begin) / CLOCKS_PER_SEC < 1);  // of processor time: other processes do not count
  }
}

TEST_CASE("depth, number of values and size have limits", "[train][yaml]") {
  CHECK_NOTHROW(parse_yaml(std::string(32, '[') + std::string(32, ']'), "f.yaml"));
  CHECK_THAT(message_of(std::string(33, '[') + std::string(33, ']')),
             ContainsSubstring("nested deeper than 32 levels"));
  std::string values = "[";
  for (int i = 0; i < 9999; ++i) values += "1,";
  CHECK_NOTHROW(parse_yaml(values + "]", "f.yaml"));
  CHECK_THAT(message_of(values + "1]"), ContainsSubstring("more than 10000 values"));
  CHECK_THAT(message_of(std::string((1 << 20) + 1, '#')), ContainsSubstring("larger than 1 MiB"));
}

TEST_CASE("a configuration file that cannot be read says why", "[train][yaml]") {
  const std::filesystem::path folder =
      std::filesystem::path(BALLAST_BINARY_DIR) / "yaml_test_files";
  std::filesystem::create_directories(folder);
  const auto message = [&](const std::filesystem::path& path) -> std::string {
    try {
      read_yaml_file(path);
    } catch (const ConfigError& e) {
      return e.what();
    }
    return "accepted";
  };
  const auto write = [&](const char* name, const std::string& text) {
    std::ofstream(folder / name, std::ios::binary) << text;
    return folder / name;
  };
  CHECK_THAT(message(folder / "none.yaml"), ContainsSubstring("none.yaml: no such file"));
  CHECK_THAT(message(folder / "none" / "none.yaml"), ContainsSubstring("no such file"));
  CHECK_THAT(message(folder), ContainsSubstring("is a folder"));
  CHECK_THAT(message("/dev/zero"), ContainsSubstring("is not a regular file"));
  CHECK_THAT(message(write("empty.yaml", "")), ContainsSubstring("empty.yaml: is empty"));
  CHECK_THAT(message(write("list.yaml", "- 1\n")),
             ContainsSubstring("list.yaml:1:1: the document is a list"));
  CHECK_THAT(message(write("word.yaml", "a:1\n")), ContainsSubstring("is a single value"));
  CHECK_THAT(message(write("huge.yaml", std::string(2 << 20, '\n'))),
             ContainsSubstring("larger than 1 MiB"));
  CHECK_THAT(message(std::string(5000, 'x')), ContainsSubstring("xxx"));
  CHECK(message(write("good.yaml", "a: 1\n")) == "accepted");
}

TEST_CASE("numbers and truth values are read strictly", "[train][yaml]") {
  int64_t i = 0;
  double x = 0.0;
  bool b = false;
  CHECK((parse_int("42", i) && i == 42));
  CHECK((parse_int("-7", i) && i == -7));
  CHECK((parse_int("+7", i) && i == 7));
  CHECK((parse_int("0", i) && i == 0));
  CHECK((parse_int("1e6", i) && i == 1000000));
  CHECK((parse_int("1.5e3", i) && i == 1500));
  CHECK((parse_int("9223372036854775807", i) && i == std::numeric_limits<int64_t>::max()));
  for (const char* text : {"010",
                           "0x10",
                           "0o7",
                           "0b1",
                           "1_000",
                           "1.5",
                           "1e-1",
                           "",
                           "-",
                           "+",
                           "e5",
                           "1e",
                           "9223372036854775808",
                           "1e16",
                           "1e999",
                           " 1",
                           "1 ",
                           "+-1",
                           "--1",
                           "٣",
                           "1,000"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_int(text, i));
  }
  CHECK((parse_double("3e-4", x) && x == 3e-4));
  CHECK((parse_double("+.5", x) && x == 0.5));
  CHECK((parse_double("1.", x) && x == 1.0));
  CHECK((parse_double("-1E+2", x) && x == -100.0));
  for (const char* text : {".inf", "-.inf", ".nan", "inf", "nan", "infinity", "1e999", "1e-999",
                           "0x1p3", "1_0", "00.5", ".", "1e+", "1d5", "1f"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_double(text, x));
  }
  CHECK((parse_bool("true", b) && b));
  CHECK((parse_bool("false", b) && !b));
  for (const char* text : {"yes", "no", "on", "off", "True", "FALSE", "y", "1", ""}) {
    CAPTURE(text);
    CHECK_FALSE(parse_bool(text, b));
  }
}

TEST_CASE("a double is printed with the fewest digits that read back the same", "[train][yaml]") {
  CHECK(format_double(0.0) == "0.0");
  CHECK(format_double(1.0) == "1.0");
  CHECK(format_double(0.1) == "0.1");
  CHECK(format_double(3e-4) == "3.0e-4");
  CHECK(format_double(1e-5) == "1.0e-5");
  CHECK(format_double(2.5e-10) == "2.5e-10");
  CHECK(format_double(1e22) == "1.0e+22");
  for (const double x : {8.0 / 3.0, 1e300, 2.3e-308, -0.1, 10000.0, 1e100, 123456789.125}) {
    double back = 0.0;
    CAPTURE(x);
    REQUIRE(parse_double(format_double(x), back));
    CHECK(back == x);
  }
}

TEST_CASE("text that could be mistaken for something else is quoted", "[train][yaml]") {
  CHECK(quote_if_needed("runs/a-1.txt") == "runs/a-1.txt");
  for (const char* text :
       {"yes", "No", "null", "~",  "true", "12",  "1e3", ".5", "",   "a: b", "#x",   "-",
        "a b", "é",  "\"",   "\\", "x\ny", "[a]", "*a",  "&a", "a ", "0x1F", ".inf", "on"}) {
    CAPTURE(text);
    const std::string quoted = quote_if_needed(text);
    CHECK(quoted.front() == '"');
    const YamlNode node = parse_yaml("k: " + quoted, "f.yaml").entries.at(0).value;
    CHECK(node.quoted);
    CHECK(node.text == text);
  }
}

TEST_CASE("text in a message stays on its line", "[train][yaml]") {
  CHECK(printable("a\nb\x1b[1m\x7f\xff") == "a\\nb\\x1b[1m\\x7f\\xff");
  CHECK(printable("é") == "é");
  CHECK(printable(std::string(100, 'x'), 10) == "xxxxxxxxxx…");
}

}  // namespace ballast
