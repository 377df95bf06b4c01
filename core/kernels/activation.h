// Activation functions: one struct for each, with its value and its derivative.
#pragma once

namespace ballast {

enum class ActivationKind { relu, gelu, gelu_tanh, silu };

}  // namespace ballast
