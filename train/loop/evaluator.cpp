#include "train/loop/evaluator.h"

#include <algorithm>

namespace ballast {

Evaluation evaluate(Model& model, Tape& tape, const EvalSampler& sampler, int64_t rows) {
  const bool was_recording = tape.recording();
  tape.set_recording(false);
  Evaluation result;
  Batch batch;
  double sum = 0.0;
  for (int64_t i = 0; i < sampler.n_batches(); ++i) {
    for (int64_t row = 0; row < sampler.batch_size(); row += rows) {
      sampler.batch(i, row, std::min(row + rows, sampler.batch_size()), batch);
      if (batch.n_targets == 0) continue;
      tape.reset();
      const LmLoss loss = model.loss(tape, {batch.tokens.data(), batch.rows, batch.seq_len},
                                     batch.targets.data(), {.denominator = 1});
      sum += loss.stats->ce;
      result.n_targets += loss.stats->n_targets;
    }
  }
  tape.reset();
  tape.set_recording(was_recording);
  result.ce = result.n_targets > 0 ? sum / static_cast<double>(result.n_targets) : 0.0;
  return result;
}

}  // namespace ballast
