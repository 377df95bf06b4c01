#include "train/data/grammar.h"

#include <cmath>
#include <map>

#include "tests/support/catch.h"
#include "tests/train/data/support.h"

namespace ballast {
namespace {

constexpr std::string_view kSmall = R"(
@names name he
  Ann/she; Bob/he; Cleo/she
#story
  3* {a=names} met {b=names!a}. <tail>\n
  {a=names} slept well.\n
#tail
  {a.he} ran
  "{b}!" said {a}
)";

std::string generate(const Grammar& grammar, RandomStream& stream, double* nats = nullptr) {
  std::string text(static_cast<size_t>(grammar.max_length()), '\0');
  text.resize(static_cast<size_t>(grammar.generate(stream, text, nats)));
  return text;
}

TEST_CASE("a small grammar has the entropy and the lengths counted by hand",
          "[train][data][grammar]") {
  const Grammar grammar(kSmall);
  // The choice of the story, then either two names and a tail, or one name.
  const double choice = 0.75 * std::log(4.0 / 3.0) + 0.25 * std::log(4.0);
  CHECK(grammar.entropy() ==
        Approx(choice + 0.75 * (std::log(3.0) + std::log(2.0) + std::log(2.0)) +
               0.25 * std::log(3.0)));
  // Names have 10/3 letters on average, pronouns 8/3.
  const double name = 10.0 / 3.0;
  const double tail = 0.5 * (8.0 / 3.0 + 4.0) + 0.5 * (2.0 * name + 9.0);
  CHECK(grammar.mean_length() == Approx(0.75 * (2.0 * name + 8.0 + tail) + 0.25 * (name + 13.0)));
  CHECK(grammar.max_length() == 33);  // as if both were Cleo: a bound, not a document
  CHECK(grammar.find_ambiguity() == std::nullopt);
}

TEST_CASE("documents come with the probability that they are said to have",
          "[train][data][grammar]") {
  const Grammar grammar(kSmall);
  constexpr int kDraws = 60000;
  std::map<std::string, int> counts;
  std::map<std::string, double> information;
  RandomStream stream(2, 3);
  for (int i = 0; i < kDraws; ++i) {
    double nats = 0.0;
    const std::string text = generate(grammar, stream, &nats);
    ++counts[text];
    const auto [at, is_new] = information.emplace(text, nats);
    REQUIRE(at->second == Approx(nats));
  }
  CHECK(counts.size() == 3 * 2 * 2 + 3);  // every document, no other
  CHECK(counts.count("Cleo met Bob. \"Bob!\" said Cleo\n") == 1);
  CHECK(counts.count("Bob met Ann. he ran\n") == 1);
  double total = 0.0;
  double entropy = 0.0;
  double mean_length = 0.0;
  for (const auto& [text, nats] : information) {
    const double p = std::exp(-nats);
    total += p;
    entropy += p * nats;
    mean_length += p * static_cast<double>(text.size());
    CHECK(std::abs(counts[text] - kDraws * p) < 5.0 * std::sqrt(kDraws * p * (1.0 - p)));
  }
  CHECK(total == Approx(1.0).epsilon(1e-12));
  CHECK(entropy == Approx(grammar.entropy()).epsilon(1e-12));
  CHECK(mean_length == Approx(grammar.mean_length()).epsilon(1e-12));
}

TEST_CASE("two variables can be excluded at once", "[train][data][grammar]") {
  const Grammar grammar("@l v\n a; b; c; d\n#s\n {x=l}{y=l!x}{z=l!x!y}\n");
  CHECK(grammar.entropy() == Approx(std::log(24.0)));
  std::map<std::string, int> counts;
  RandomStream stream(1, 1);
  for (int i = 0; i < 24000; ++i) ++counts[generate(grammar, stream)];
  CHECK(counts.size() == 24);
  for (const auto& [text, count] : counts) CHECK(std::abs(count - 1000) < 5.0 * std::sqrt(1000.0));
}

TEST_CASE("texts that could be read in two ways are found", "[train][data][grammar]") {
  const auto ambiguity = [](std::string_view text) { return Grammar(text).find_ambiguity(); };
  CHECK(ambiguity("#s\n one\n two\n") == std::nullopt);
  CHECK(ambiguity("#s\n one\n one\n") == "rule 's': alternatives 1 and 2");
  CHECK(ambiguity("#s\n one\n one more\n") == "rule 's': alternatives 1 and 2");
  CHECK(ambiguity("#s\n one<t>\n one two\n#t\n  <u>x\n#u\n three\n four\n") == std::nullopt);
  // "ab" is a + b and also ab.
  CHECK(ambiguity("#s\n a<t>\n ab\n#t\n b\n c\n") == "rule 's': alternatives 1 and 2");
  CHECK(ambiguity("@l v\n cat; caterpillar; dog\n#s\n {x=l}.\n") ==
        "list 'l': 'cat' begins another item");
  // Two draws of one list, told apart by what follows, and not.
  CHECK(ambiguity("@l v\n p; q; r\n#s\n {x=l} a\n {x=l} b\n") == std::nullopt);
  CHECK(ambiguity("@l v\n p; q; r\n#s\n {x=l} a\n {y=l} b\n") == std::nullopt);
  CHECK(ambiguity("@l v\n p; q; r\n#s\n {x=l} a\n {y=l} a\n") == "rule 's': alternatives 1 and 2");
  CHECK(ambiguity("@l v\n p; q; r\n#s\n {x=l} a\n p a\n") == "rule 's': alternatives 1 and 2");
  // The same name printed on both sides stands for the same text only if it was bound the same way.
  CHECK(ambiguity("@l v\n p; q; r\n#s\n {x=l}<t>\n#t\n {x}a\n {x}b\n") == std::nullopt);
  CHECK(ambiguity("@l v\n p; q; r\n#s\n {x=l}<t>\n#t\n {x=l}{x}\n p{x}\n") ==
        "rule 't': alternatives 1 and 2");
}

TEST_CASE("a grammar that cannot be read is refused with the reason", "[train][data][grammar]") {
  const auto read = [](std::string_view text) { Grammar grammar(text); };
  CHECK_THROWS_WITH(read(""), "[grammar] there is no rule");
  CHECK_THROWS_WITH(read("#s\n <t>\n"), "[grammar] there is no rule 't'");
  CHECK_THROWS_WITH(read("#s\n <s> more\n"), "[grammar] rule 's' contains itself");
  CHECK_THROWS_WITH(read("#s\n a <t\n#t\n"), "[grammar] '<t' is not closed");
  CHECK_THROWS_WITH(read("#s\n"), "[grammar] rule 's' has no alternative");
  CHECK_THROWS_WITH(read("#s\n {x}\n"), "[grammar] variable 'x' is printed above its first draw");
  CHECK_THROWS_WITH(read("#s\n {x=l}\n"), "[grammar] there is no list 'l'");
  CHECK_THROWS_WITH(read("@l v\n a; b\n#s\n {x=l}\n"), "[grammar] list 'l' is too short");
  CHECK_THROWS_WITH(read("@l v w\n a\n"),
                    "[grammar] item ' a' of list 'l' has 1 fields; expected 2");
  CHECK_THROWS_WITH(read("@l v\n a; b; c\n#s\n {x=l.w}\n"), "[grammar] list 'l' has no field 'w'");
  CHECK_THROWS_WITH(read("@l v\n a; b; c\n@m v\n a; b; c\n#s\n {x=l}{x=m}\n"),
                    "[grammar] variable 'x' is drawn from two lists");
  CHECK_THROWS_WITH(read("#s\n 0* a\n"), "[grammar] weight 0 in rule 's'");
}

}  // namespace
}  // namespace ballast
