// Clipping of gradients: what they are multiplied by before the update.
#pragma once

#include "optim/optim_config.h"

namespace ballast {

/// none: 1.   global: min(1, max_norm / (norm + 1e-6)), norm = ||g||_2 of all parameters together.
/// Pascanu et al. 2012; the 1e-6 is that of torch.nn.utils.clip_grad_norm_.
double clip_scale(const ClipConfig& clip, double norm);

}  // namespace ballast
