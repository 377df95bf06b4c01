#include "layers/position.h"

#include <algorithm>
#include <cmath>

#include "core/kernels/t5_bias.h"

namespace ballast {

std::byte* PositionMemory::grow(Dtype dtype, int64_t& n_positions, int64_t elements_per_position) {
  const bool is_first = memory_.empty() || dtype != dtype_;
  if (!is_first && n_positions <= n_positions_) return nullptr;
  // Generation asks for one position more at every token: doubling keeps that cheap.
  if (!is_first) n_positions = std::max(n_positions, 2 * n_positions_);
  n_positions_ = n_positions;
  dtype_ = dtype;
  const int64_t bytes = n_positions * elements_per_position * size_of(dtype);
  return memory_.emplace_back(allocate_aligned(static_cast<size_t>(bytes))).get();
}

const RopeTable& RopeTables::get(Dtype dtype, int64_t n_positions) {
  std::byte* memory = memory_.grow(dtype, n_positions, width_);
  if (memory == nullptr) return table_;
  const Shape shape{n_positions, width_ / 2};
  table_ = {{memory, shape, dtype}, {memory + shape.size() * size_of(dtype), shape, dtype}};
  dispatch(dtype, [&]<class T>() {
    rope_table(theta_, width_, n_positions, table_.cos.data<T>(), table_.sin.data<T>());
  });
  return table_;
}

void sinusoidal_table(int64_t n_positions, int64_t d_model, const Tensor& out) {
  dispatch(out.dtype, [&]<class T>() {
    for (int64_t t = 0; t < n_positions; ++t) {
      for (int64_t c = 0; c < d_model; ++c) {
        const double exponent = static_cast<double>(c - c % 2) / static_cast<double>(d_model);
        const double angle = static_cast<double>(t) * std::pow(10000.0, -exponent);
        out.data<T>()[t * d_model + c] =
            static_cast<T>(c % 2 == 0 ? std::sin(angle) : std::cos(angle));
      }
    }
  });
}

std::vector<double> alibi_slopes(int64_t n_heads) {
  int64_t power = 1;
  while (2 * power <= n_heads) power *= 2;
  std::vector<double> slopes;
  for (int64_t h = 1; h <= power; ++h) {
    slopes.push_back(std::exp2(-8.0 * static_cast<double>(h) / static_cast<double>(power)));
  }
  for (int64_t h = 1; static_cast<int64_t>(slopes.size()) < n_heads; h += 2) {
    slopes.push_back(std::exp2(-8.0 * static_cast<double>(h) / static_cast<double>(2 * power)));
  }
  return slopes;
}

namespace {

/// (H, n): -slope_h * distance, times the scale where the bias is added before it.
void alibi_table(const ModelConfig& config, int64_t n_positions, const Tensor& out) {
  const std::vector<double> slopes = alibi_slopes(config.n_heads);
  const double scale = config.position.alibi_scaled ? config.attention_scale() : 1.0;
  dispatch(out.dtype, [&]<class T>() {
    for (int64_t h = 0; h < config.n_heads; ++h) {
      const double slope = scale * slopes[static_cast<size_t>(h)];
      for (int64_t d = 0; d < n_positions; ++d) {
        out.data<T>()[h * n_positions + d] = static_cast<T>(-slope * static_cast<double>(d));
      }
    }
  });
}

}  // namespace

Positions::Positions(const ModelConfig& c, ParameterStore& store)
    : config_(c),
      store_(&store),
      rope_(c.position.theta, c.rotated_width()),
      rope_local_(c.position.theta_local.value_or(c.position.theta), c.rotated_width()) {
  if (c.position.kind == PositionKind::t5) {
    t5_table_ = &store.add("position.t5_bias", Shape{c.position.t5_buckets, c.n_heads}, Role::bias);
    t5_buckets_ = t5_buckets(c.position.t5_buckets, c.position.t5_max_distance);
  }
}

PositionInputs Positions::inputs(Tape& tape, int64_t n_positions) {
  const Dtype dtype = tape.dtype();
  PositionInputs inputs;
  switch (config_.position.kind) {
    case PositionKind::none:
    case PositionKind::learned:
      break;
    case PositionKind::sinusoidal: {
      int64_t n = n_positions;
      if (std::byte* memory = memory_.grow(dtype, n, config_.d_model)) {
        table_ = {memory, Shape{n, config_.d_model}, dtype};
        sinusoidal_table(n, config_.d_model, table_);
      }
      inputs.absolute = tape.constant(table_);
      break;
    }
    case PositionKind::rope:
      inputs.rope = &rope_.get(dtype, n_positions);
      inputs.rope_local = &rope_local_.get(dtype, n_positions);
      break;
    case PositionKind::alibi: {
      int64_t n = n_positions;
      if (std::byte* memory = memory_.grow(dtype, n, config_.n_heads)) {
        table_ = {memory, Shape{config_.n_heads, n}, dtype};
        alibi_table(config_, n, table_);
      }
      inputs.distance_bias = tape.constant(table_);
      break;
    }
    case PositionKind::t5:
      inputs.distance_bias =
          t5_bias(tape, tape.parameter(*store_, *t5_table_), t5_buckets_, n_positions);
      break;
  }
  if (config_.attention.nope_temperature > 0.0) {
    int64_t n = n_positions;
    if (std::byte* memory = query_memory_.grow(Dtype::f64, n, 1)) {
      auto* const factors = reinterpret_cast<double*>(memory);
      for (int64_t t = 0; t < n; ++t) {
        const int64_t steps = (t + 1) / config_.attention.nope_temperature_floor;
        factors[t] =
            1.0 + config_.attention.nope_temperature * std::log1p(static_cast<double>(steps));
      }
      query_factors_ = {factors, static_cast<size_t>(n)};
    }
    inputs.query_factors = query_factors_;
  }
  return inputs;
}

}  // namespace ballast
