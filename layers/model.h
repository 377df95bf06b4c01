// The whole language model, built from its description.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "layers/block.h"
#include "layers/embedding.h"
#include "layers/lm_head.h"

namespace ballast {

class Model {
 public:
  /// Declares all parameters in `store`, which must outlive the model; then store.allocate() and
  /// initialise(). vocab_size and max_seq_len must be set.
  /// Throws std::invalid_argument where sizes contradict each other.
  Model(const ModelConfig& config, ParameterStore& store);

  /// Mean loss over options.denominator targets (B*T of them in `targets`, -1 is ignored).
  LmLoss loss(Tape& tape, TokenView tokens, const int32_t* targets, const LossOptions& options,
              const ForwardContext& context = {});

  /// Next-token logits (B, T, V).
  Var logits(Tape& tape, TokenView tokens, const ForwardContext& context = {});

  /// Logits (1, 1, V) after the last of the tokens: all that generation needs of a prompt.
  Var last_logits(Tape& tape, TokenView tokens, const ForwardContext& context);

  const ModelConfig& config() const { return config_; }

 private:
  Var residual_stream(Tape& tape, TokenView tokens, const ForwardContext& context);

  ModelConfig config_;
  Embedding embedding_;
  std::vector<Block> blocks_;
  LmHead head_;
  Positions positions_;
};

/// Keys and values of one sequence for every layer of a model. A local layer keeps the last
/// `window` of them, as a ring.
class KvCaches {
 public:
  KvCaches(const ModelConfig& config, Dtype dtype, int64_t capacity);
  std::vector<KvCache>& layers() { return layers_; }
  int64_t length() const { return layers_.empty() ? 0 : layers_.front().length; }
  int64_t capacity() const { return capacity_; }
  void clear();

 private:
  AlignedBytes memory_;
  std::vector<KvCache> layers_;
  int64_t capacity_;
};

}  // namespace ballast
