#include "train/data/stories.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <string>

#include "tests/support/catch.h"
#include "tests/train/data/support.h"

namespace ballast {
namespace {

std::string text_of(const DataSource& data, Split split, int64_t index, size_t n) {
  std::vector<int32_t> tokens(n);
  data.window(split, index, tokens);
  return {tokens.begin(), tokens.end()};
}

TEST_CASE("every story can be read back in one way only", "[train][data][stories]") {
  CHECK(Grammar(stories_grammar()).find_ambiguity().value_or("none") == "none");
}

TEST_CASE("the mean information and length of stories are what the grammar says",
          "[train][data][stories]") {
  const Grammar grammar(stories_grammar());
  constexpr int kStories = 50000;
  std::vector<double> nats;
  std::vector<double> lengths;
  std::vector<char> story(static_cast<size_t>(grammar.max_length()));
  RandomStream stream(1, 2);
  for (int i = 0; i < kStories; ++i) {
    double information = 0.0;
    const int64_t length = grammar.generate(stream, story, &information);
    nats.push_back(information);
    lengths.push_back(static_cast<double>(length));
    const std::string text(story.begin(), story.begin() + length);
    REQUIRE(text.find("\n\n") == text.size() - 2);
    REQUIRE(std::all_of(text.begin(), text.end(),
                        [](char c) { return c == '\n' || (c >= ' ' && c <= 'z'); }));
  }
  const MeanAndError mean_nats(nats);
  const MeanAndError mean_length(lengths);
  CHECK(std::abs(mean_nats.mean - grammar.entropy()) < 5.0 * mean_nats.error);
  CHECK(std::abs(mean_length.mean - grammar.mean_length()) < 5.0 * mean_length.error);
  CHECK(mean_nats.error < 0.001 * grammar.entropy());
  CHECK(mean_length.error < 0.002 * grammar.mean_length());
}

TEST_CASE("the floor of stories is nats a byte", "[train][data][stories]") {
  const StoriesData data(256, 1);
  CHECK(*data.floor(64) == data.grammar().entropy() / data.grammar().mean_length());
  CHECK(*data.floor(64) == *data.floor(512));
  CHECK(*data.floor(64) > 0.05);
  CHECK(*data.floor(64) < 0.5);
}

TEST_CASE("windows begin at a random byte of the endless text", "[train][data][stories]") {
  // In it a story ends at each byte with probability 1 / E[length], wherever the window begins.
  const StoriesData data(256, 1);
  constexpr int kWindows = 100000;
  constexpr size_t kLength = 42;
  std::vector<int> ends(kLength, 0);
  for (int64_t w = 0; w < kWindows; ++w) {
    const std::string text = text_of(data, Split::train, w, kLength);
    const size_t end = text.find("\n\n");
    if (end != std::string::npos) ++ends[end];
  }
  const double p = 1.0 / data.grammar().mean_length();
  for (const size_t position : {size_t{0}, size_t{1}, size_t{20}, size_t{40}}) {
    CHECK(std::abs(ends[position] - kWindows * p) < 5.0 * std::sqrt(kWindows * p));
  }
}

TEST_CASE("a story keeps its hero", "[train][data][stories]") {
  const StoriesData data(256, 1);
  int64_t seen = 0;
  for (int64_t w = 0; w < 200; ++w) {
    const std::string text = text_of(data, Split::train, w, 3000);
    for (size_t at = text.find("child named "); at != std::string::npos;
         at = text.find("child named ", at + 1)) {
      const size_t name_begin = at + std::string("child named ").size();
      const std::string name = text.substr(name_begin, text.find('.', name_begin) - name_begin);
      const size_t end = text.find("\n\n", at);
      if (end == std::string::npos) continue;
      REQUIRE(text.substr(name_begin + name.size(), end - name_begin).find(name) !=
              std::string::npos);
      ++seen;
    }
  }
  CHECK(seen > 200);
}

TEST_CASE("longer windows continue shorter ones, and no two are alike", "[train][data][stories]") {
  const StoriesData data(256, 1);
  std::set<std::string> distinct;
  for (int64_t w = 0; w < 500; ++w) {
    for (const Split split : {Split::train, Split::val}) {
      distinct.insert(text_of(data, split, w, 200));
      CHECK(text_of(data, split, w, 2000).substr(0, 200) == text_of(data, split, w, 200));
    }
  }
  CHECK(distinct.size() == 1000);
}

TEST_CASE("stories need the vocabulary of bytes", "[train][data][stories]") {
  CHECK_THROWS_WITH(StoriesData(128, 1),
                    ContainsSubstring("model.vocab_size = 128; expected at least 256"));
}

}  // namespace
}  // namespace ballast
