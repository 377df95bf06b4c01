#include "train/data/data_config.h"

namespace ballast {

void validate(const DataConfig& c) {
  check(c.seq_len > 0, "data.seq_len = ", c.seq_len, "; expected at least 1");
  check(c.tokenizer == "bytes", "data.tokenizer = ", c.tokenizer,
        " is not in this version; expected bytes");
  if (c.source == DataKind::synthetic) {
    check(c.synthetic.successors >= 2, "data.synthetic.successors = ", c.synthetic.successors,
          "; expected at least 2");
    check(c.synthetic.concentration > 0.0 && c.synthetic.concentration <= 1e6,
          "data.synthetic.concentration = ", c.synthetic.concentration,
          "; expected more than 0 and at most 1e6");
    return;
  }
  check(!c.train.empty(),
        "data.train is empty; expected at least one file for data.source: ", name_of(c.source));
  check(!c.val.empty() || (c.val_fraction > 0.0 && c.val_fraction < 1.0),
        "data.val_fraction = ", c.val_fraction, "; expected more than 0 and less than 1");
}

template <>
std::span<const VariantRow<DataKind>> variant_rows() {
  static constexpr VariantRow<DataKind> kRows[] = {
      {DataKind::text, "text", "UTF-8 files"},
      {DataKind::tokens, "tokens", "raw little-endian uint16 ids, as nanoGPT writes them"},
      {DataKind::synthetic, "synthetic", "seeded generators without end"},
  };
  return kRows;
}

template <>
std::span<const VariantRow<DataOrder>> variant_rows() {
  static constexpr VariantRow<DataOrder> kRows[] = {
      {DataOrder::random, "random", "uniform start offsets, with replacement (nanoGPT)"},
      {DataOrder::shuffled, "shuffled", "each window once an epoch, in a seeded order"},
      {DataOrder::sequential, "sequential", "the windows as they come, again and again"},
  };
  return kRows;
}

template <>
std::span<const VariantRow<CorpusKind>> variant_rows() {
  static constexpr VariantRow<CorpusKind> kRows[] = {
      {CorpusKind::stories, "stories", "a template grammar of simple English, in bytes"},
      {CorpusKind::uniform, "uniform", "independent uniform tokens: nothing to learn"},
      {CorpusKind::markov1, "markov1", "a sparse random chain of order 1"},
      {CorpusKind::markov2, "markov2", "a sparse random chain of order 2, uniform in pairs"},
  };
  return kRows;
}

template <>
std::span<const std::string_view> planned_variants<CorpusKind>() {
  static constexpr std::string_view kNames[] = {"zipf_markov", "icl_markov", "pcfg",  "mqar",
                                                "copy",        "dyck",       "modadd"};
  return kNames;
}

}  // namespace ballast
