// Gated linear units: act(gate) * up, where one matrix product made gate and up side by side.
#pragma once

#include <cstdint>

#include "core/kernels/activation.h"

namespace ballast {

/// y = f(gate) * up.   gate_up: rows that begin `stride` apart, gate in columns [0, F), up in
/// [F, 2F)   y: (rows, F)
/// Saves nothing; backward takes gate_up again.   Shazeer 2020, arXiv 2002.05202.
template <class T>
void glu_forward(ActivationKind kind, const T* gate_up, int64_t rows, int64_t F, int64_t stride,
                 T* y);

/// dgate = dy * up * f'(gate), dup = dy * f(gate), laid out as gate_up. dgate_up may be gate_up.
template <class T>
void glu_backward(ActivationKind kind, const T* dy, const T* gate_up, int64_t rows, int64_t F,
                  int64_t stride, T* dgate_up, bool accumulate);

}  // namespace ballast
