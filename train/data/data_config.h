// The description of the data: plain structs for the `data:` section of a run configuration.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/variant_table.h"

namespace ballast {

enum class DataKind { text, tokens, synthetic };
enum class DataOrder { random, shuffled, sequential };
enum class CorpusKind { stories, uniform, markov1, markov2 };

struct SyntheticConfig {
  CorpusKind corpus = CorpusKind::stories;
  int64_t successors = 8;      ///< markov1, markov2: tokens that can follow a context
  double concentration = 1.0;  ///< markov1, markov2: of the Dirichlet their probabilities come from
};

struct DataConfig {
  DataKind source = DataKind::text;
  std::vector<std::string> train;
  std::vector<std::string> val;  ///< empty: the last val_fraction of train
  double val_fraction = 0.1;
  std::string tokenizer = "bytes";
  int64_t seq_len = 256;
  DataOrder order = DataOrder::random;
  SyntheticConfig synthetic;
};

/// Throws std::invalid_argument "data.key = …: reason" for values that cannot be served.
void validate(const DataConfig& config);

template <>
std::span<const VariantRow<DataKind>> variant_rows<DataKind>();
template <>
std::span<const VariantRow<DataOrder>> variant_rows<DataOrder>();
template <>
std::span<const VariantRow<CorpusKind>> variant_rows<CorpusKind>();
template <>
std::span<const std::string_view> planned_variants<CorpusKind>();

}  // namespace ballast
