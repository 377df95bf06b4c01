#include "train/data/data_source.h"

#include "train/data/file_data.h"
#include "train/data/markov.h"
#include "train/data/stories.h"

namespace ballast {
namespace {

std::unique_ptr<DataSource> open_synthetic(const SyntheticConfig& config, int64_t vocab_size,
                                           uint64_t seed) {
  switch (config.corpus) {
    case CorpusKind::stories:
      return std::make_unique<StoriesData>(vocab_size, seed);
    case CorpusKind::uniform:
      return std::make_unique<UniformData>(vocab_size, seed);
    case CorpusKind::markov1:
      return std::make_unique<Markov1Data>(vocab_size, config, seed);
    case CorpusKind::markov2:
      return std::make_unique<Markov2Data>(vocab_size, config, seed);
  }
  throw InternalError("internal error: a corpus has no case");
}

}  // namespace

std::unique_ptr<DataSource> open_data(const DataConfig& config, int64_t vocab_size,
                                      uint64_t data_seed, const std::filesystem::path& config_dir) {
  validate(config);
  check(vocab_size > 0, "model.vocab_size = ", vocab_size, "; expected at least 1");
  switch (config.source) {
    case DataKind::text:
    case DataKind::tokens:
      return std::make_unique<FileData>(config, vocab_size, config_dir);
    case DataKind::synthetic:
      return open_synthetic(config.synthetic, vocab_size, data_seed);
  }
  throw InternalError("internal error: a data source has no case");
}

}  // namespace ballast
