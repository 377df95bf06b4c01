// Initial values of parameters.
#pragma once

#include <cstdint>

#include "core/parameter.h"
#include "layers/model_config.h"

namespace ballast {

/// Standard deviation of a parameter's initial values: 0 for those that start at a constant.
///   linear, head:  normal std   fan_in 1/sqrt(fan_in)   xavier sqrt(2 / (fan_in + fan_out))
///                  small sqrt(2 / (5 d_model));   with depth_scale, wo and w_down / sqrt(2
///                  n_layers)
///   embedding, position:  embedding_std, or std
double initial_std(const ModelConfig& config, const Parameter& parameter);

/// Gives every parameter of an allocated store its initial value: normal numbers of mean 0 and
/// initial_std, those beyond `trunc` standard deviations drawn again (which makes the tensor's own
/// deviation smaller, as in torch.nn.init.trunc_normal_); gains 1 (0 where applied as 1 + w),
/// biases 0. A tensor's values depend on seed, name and shape alone, and are the same in float and
/// double up to rounding.
void initialise(const ModelConfig& config, ParameterStore& store, uint64_t seed);

}  // namespace ballast
