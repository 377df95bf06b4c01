// Every activation, for tests that run over all of them.
#pragma once

#include <array>

#include "core/kernels/activation.h"

namespace ballast {

inline constexpr std::array kAllActivations = {
    ActivationKind::relu,    ActivationKind::relu2, ActivationKind::gelu, ActivationKind::gelu_tanh,
    ActivationKind::silu,    ActivationKind::elu,   ActivationKind::selu, ActivationKind::softplus,
    ActivationKind::sigmoid, ActivationKind::tanh,  ActivationKind::mish, ActivationKind::softsign,
    ActivationKind::identity};

}  // namespace ballast
