#include "optim/clip.h"

#include <algorithm>

namespace ballast {

double clip_scale(const ClipConfig& clip, double norm) {
  switch (clip.kind) {
    case ClipKind::none:
      return 1.0;
    case ClipKind::global:
      return std::min(1.0, clip.max_norm / (norm + 1e-6));
  }
  throw InternalError("internal error: clip_scale met an unknown kind");
}

}  // namespace ballast
