// Cross-entropy of next-token logits with the z-loss, on chunks of rows, in place.
#pragma once

#include <cstdint>

namespace ballast {

/// What the model's logits are made of those of the head: cap tanh(scale z / cap), or scale z.
template <class T>
struct LogitMap {
  T scale{1};
  T cap{0};  ///< 0: none
};

/// For each row: lse = log sum exp(logits), ce = lse - logits[target].
/// With gradient, the row becomes its gradient grad_scale * d(ce + z_loss * lse^2)/dlogits
///   = grad_scale * (p - onehot + 2 * z_loss * lse * p)   (the last term: PaLM, sec. 5);
/// without, it becomes the logits that the map makes of it. The map comes first: all of the above
/// is about final logits, but the gradient is that of the logits that came in.
/// logits: (R, V)   targets: (R), in [0, V), or -1: ignored, with ce, lse and gradient 0.
/// row_ce, row_lse: (R), for sums in a fixed order   row_max: (R) or null, the largest logit.
///
/// The correct class's p - 1 is computed as minus the sum of the others' p, and ce as
/// log1p(sum of the others' exp), because p rounds to 1 long before the loss is 0: then p - 1 = 0,
/// the gradient no longer sums to zero, and the logits drift. NaN or +inf among the logits makes
/// the whole row NaN.
template <class T>
void cross_entropy_rows(T* logits, const int32_t* targets, int64_t R, int64_t V, T z_loss,
                        T grad_scale, bool with_gradient, double* row_ce, double* row_lse,
                        T* row_max, LogitMap<T> map = {});

/// Sums over rows, in order; ignored rows count nowhere.
struct LossSums {
  double ce = 0.0;
  double z = 0.0;  ///< lse^2, not multiplied by the coefficient
  double lse = 0.0;
  int64_t count = 0;

  LossSums& operator+=(const LossSums& other);
};
LossSums sum_loss_rows(const int32_t* targets, const double* row_ce, const double* row_lse,
                       int64_t R);

}  // namespace ballast
