// Validation: the mean cross-entropy over a fixed set of batches.
#pragma once

#include "layers/model.h"
#include "train/data/batch.h"

namespace ballast {

struct Evaluation {
  double ce = 0.0;  ///< mean over all targets, nats a token
  int64_t n_targets = 0;
};

/// Runs the model on every batch of the sampler, `rows` sequences at a time, without dropout.
/// Leaves the tape reset and recording as it was.
Evaluation evaluate(Model& model, Tape& tape, const EvalSampler& sampler, int64_t rows);

}  // namespace ballast
