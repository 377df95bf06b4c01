#include "layers/model.h"

#include <algorithm>

namespace ballast {

namespace {

const ModelConfig& validated(const ModelConfig& config) {
  validate(config);
  check(config.vocab_size.has_value() && *config.vocab_size > 0, "model.vocab_size is not set");
  check(config.max_seq_len.has_value() && *config.max_seq_len > 0, "model.max_seq_len is not set");
  return config;
}

std::vector<Block> make_blocks(const ModelConfig& config, ParameterStore& store) {
  std::vector<Block> blocks;
  for (int64_t i = 0; i < config.n_layers; ++i) blocks.emplace_back(config, store, i);
  return blocks;
}

}  // namespace

Model::Model(const ModelConfig& config, ParameterStore& store)
    : config_(validated(config)),
      embedding_(config, store),
      blocks_(make_blocks(config, store)),
      head_(config, store, embedding_.table()),
      positions_(config, store) {}

Var Model::residual_stream(Tape& tape, TokenView tokens, const ForwardContext& context) {
  // All positions of the run are tabulated at once: a table that grew would leave nodes dangling.
  const int64_t n_positions =
      std::max(*config_.max_seq_len, context.position_offset + tokens.length);
  const PositionInputs positions = positions_.inputs(tape, n_positions);
  Var x = embedding_(tape, tokens, positions.absolute, context);
  for (const Block& block : blocks_) x = block(tape, x, positions, context);
  return x;
}

LmLoss Model::loss(Tape& tape, TokenView tokens, const int32_t* targets, const LossOptions& options,
                   const ForwardContext& context) {
  return head_.loss(tape, residual_stream(tape, tokens, context), targets, options);
}

Var Model::logits(Tape& tape, TokenView tokens, const ForwardContext& context) {
  return head_.logits(tape, residual_stream(tape, tokens, context));
}

Var Model::last_logits(Tape& tape, TokenView tokens, const ForwardContext& context) {
  check(!tape.recording() && tokens.batch == 1,
        "[model] last_logits() serves generation: one sequence, no recording");
  const Tensor x = tape.value(residual_stream(tape, tokens, context));
  const int64_t c = x.shape.back();
  auto* row = static_cast<std::byte*>(x.memory) + (tokens.length - 1) * c * size_of(x.dtype);
  return head_.logits(tape, tape.constant({row, Shape{1, 1, c}, x.dtype}));
}

KvCaches::KvCaches(const ModelConfig& config, Dtype dtype, int64_t capacity) : capacity_(capacity) {
  const int64_t width = config.kv_heads() * config.head_size();
  const auto rows = [&](int64_t layer) {
    const int64_t window = config.window(layer);
    return window > 0 ? std::min(window, capacity) : capacity;
  };
  int64_t total = 0;
  for (int64_t i = 0; i < config.n_layers; ++i) total += 2 * rows(i) * width * size_of(dtype);
  memory_ = allocate_aligned(static_cast<size_t>(total));
  std::byte* next = memory_.get();
  for (int64_t i = 0; i < config.n_layers; ++i) {
    const Shape shape{rows(i), width};
    const int64_t bytes = shape.size() * size_of(dtype);
    layers_.push_back({{next, shape, dtype}, {next + bytes, shape, dtype}, 0});
    next += 2 * bytes;
  }
}

void KvCaches::clear() {
  for (KvCache& cache : layers_) cache.length = 0;
}

}  // namespace ballast
