#include "train/data/data_source.h"

#include <string>

#include "tests/support/catch.h"
#include "tests/train/data/support.h"

namespace ballast {
namespace {

DataConfig synthetic(CorpusKind corpus) {
  DataConfig config;
  config.source = DataKind::synthetic;
  config.synthetic.corpus = corpus;
  return config;
}

TEST_CASE("the first batch of every corpus is the one of every version", "[train][data][golden]") {
  // A change here changes every published run on that corpus: it needs a reason in the commit.
  struct Golden {
    CorpusKind corpus;
    uint64_t train;
    uint64_t val;
  };
  const auto golden = GENERATE(Golden{CorpusKind::stories, 0x371f25e9708bd7af, 0x06c2cab480dd6fcd},
                               Golden{CorpusKind::uniform, 0x0210bb5f636a0703, 0x4160a83e4e1c3471},
                               Golden{CorpusKind::markov1, 0x2ada45fa6f9489df, 0x22f1199cc7ea33dd},
                               Golden{CorpusKind::markov2, 0x258ef831e69f65a7, 0xaa2bfbb11fba7e1e});
  const auto data = open_data(synthetic(golden.corpus), 256, 1337);
  Batch batch;
  BatchSampler(*data, DataOrder::random, 4, 64, 1337).batch(0, batch);
  CAPTURE(std::string(name_of(golden.corpus)));
  CHECK(hash_of(batch) == golden.train);
  EvalSampler(*data, 4, 64, 2).batch(0, batch);
  CHECK(hash_of(batch) == golden.val);
}

TEST_CASE("the first batch of a text is the one of every version", "[train][data][golden]") {
  const DataFolder folder;
  std::string text;
  for (int i = 0; i < 3000; ++i) text += static_cast<char>('a' + i * i % 26);
  DataConfig config;
  config.train = {folder.write("text", text)};
  config.seq_len = 32;
  const auto data = open_data(config, 256, 1337);
  Batch batch;
  BatchSampler(*data, DataOrder::random, 4, 32, 1337).batch(3, batch);
  CHECK(hash_of(batch) == 0x18f9b96e3cd70e8b);
  BatchSampler(*data, DataOrder::shuffled, 4, 32, 1337).batch(3, batch);
  CHECK(hash_of(batch) == 0xddd3c66a81018e42);
}

TEST_CASE("generators differ by seed and by split, not by what was drawn before",
          "[train][data][synthetic]") {
  const auto corpus =
      GENERATE(CorpusKind::stories, CorpusKind::uniform, CorpusKind::markov1, CorpusKind::markov2);
  const auto data = open_data(synthetic(corpus), 256, 1);
  const auto again = open_data(synthetic(corpus), 256, 1);
  const auto other = open_data(synthetic(corpus), 256, 2);
  CHECK(data->n_tokens(Split::train) == std::nullopt);
  CHECK(data->fingerprint() == again->fingerprint());
  CHECK(data->fingerprint() != other->fingerprint());
  CHECK(data->floor(64).has_value());
  const BatchSampler sampler(*data, DataOrder::random, 3, 40, 1);
  Batch warm;
  for (int64_t s = 0; s <= 7; ++s) sampler.batch(s, warm);
  Batch cold;
  BatchSampler(*again, DataOrder::random, 3, 40, 1).batch(7, cold);
  CHECK(warm.tokens == cold.tokens);
  CHECK(warm.targets == cold.targets);
  BatchSampler(*other, DataOrder::random, 3, 40, 1).batch(7, cold);
  CHECK(warm.tokens != cold.tokens);
  for (size_t i = 0; i < warm.tokens.size(); ++i) {
    REQUIRE(warm.tokens[i] >= 0);
    REQUIRE(warm.tokens[i] < 256);
    if (i % 40 != 0) REQUIRE(warm.tokens[i] == warm.targets[i - 1]);
  }
  std::vector<int32_t> train(40);
  std::vector<int32_t> val(40);
  data->window(Split::train, 0, train);
  data->window(Split::val, 0, val);
  CHECK(train != val);
}

TEST_CASE("a data section that cannot be served is refused by key", "[train][data][config]") {
  const auto open = [](const DataConfig& config) { open_data(config, 256, 1); };
  DataConfig config;
  CHECK_THROWS_WITH(open(config),
                    "data.train is empty; expected at least one file for data.source: text");
  config.train = {"x"};
  config.val_fraction = 1.0;
  CHECK_THROWS_WITH(open(config), "data.val_fraction = 1; expected more than 0 and less than 1");
  config.seq_len = 0;
  CHECK_THROWS_WITH(open(config), "data.seq_len = 0; expected at least 1");
  config.seq_len = 4;
  config.tokenizer = "tokenizer.json";
  CHECK_THROWS_WITH(open(config),
                    "data.tokenizer = tokenizer.json is not in this version; expected bytes");
  config = synthetic(CorpusKind::markov1);
  config.synthetic.successors = 1;
  CHECK_THROWS_WITH(open(config), "data.synthetic.successors = 1; expected at least 2");
  config = synthetic(CorpusKind::markov1);
  config.synthetic.concentration = 0.0;
  CHECK_THROWS_WITH(open(config), ContainsSubstring("data.synthetic.concentration = 0; expected"));
}

TEST_CASE("every variant of the data section has a row with its name", "[train][data][config]") {
  for (const auto& row : variant_rows<CorpusKind>()) {
    CHECK(find_variant<CorpusKind>(row.name)->kind == row.kind);
    CHECK_NOTHROW(open_data(synthetic(row.kind), 256, 1));
  }
  CHECK(name_of(DataKind::tokens) == "tokens");
  CHECK(name_of(DataOrder::shuffled) == "shuffled");
  CHECK(find_variant<CorpusKind>("pcfg") == nullptr);
}

}  // namespace
}  // namespace ballast
