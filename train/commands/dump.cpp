// ballast dump: parameters, logits, loss terms and gradients of one batch, for an outside program
// to compare with.
#include <CLI/CLI.hpp>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <memory>

#include "core/parallel.h"
#include "layers/init.h"
#include "train/app.h"
#include "train/checkpoint/checkpoint.h"
#include "train/checkpoint/init_file.h"
#include "train/checkpoint/safetensors.h"
#include "train/checkpoint/selection.h"
#include "train/loop/loaded_run.h"

namespace ballast {

namespace {

// tokens (B, T + 1) of the file, cut into inputs and targets.
struct DumpBatch {
  int64_t rows = 0, length = 0;
  std::vector<int32_t> tokens, targets;
};

DumpBatch read_batch(const std::filesystem::path& path, const ModelConfig& model) {
  const int64_t vocab_size = model.vocab_size.value();
  const SafetensorsFile file(path);
  const StoredTensor* tensor = file.find("tokens");
  if (tensor == nullptr || tensor->type != StoredType::I32 || tensor->shape.size() != 2 ||
      tensor->shape[0] < 1 || tensor->shape[1] < 2) {
    throw DataError(
        concat(path.string(), ": expected a tensor 'tokens' of int32 with shape (B, T+1)"));
  }
  DumpBatch batch;
  batch.rows = tensor->shape[0];
  batch.length = tensor->shape[1] - 1;
  if (model.position.kind == PositionKind::learned && batch.length > *model.max_seq_len) {
    throw DataError(
        concat(path.string(), ": has ", batch.length,
               " tokens a row; expected at most model.max_seq_len = ", *model.max_seq_len));
  }
  std::vector<int32_t> all(static_cast<size_t>(tensor->size()));
  file.read(*tensor, std::as_writable_bytes(std::span(all)));
  for (size_t i = 0; i < all.size(); ++i) {
    if (all[i] < 0 || all[i] >= vocab_size) {
      throw DataError(concat(path.string(), ": token ", all[i], " at position ", i,
                             "; expected 0 <= token < ", vocab_size));
    }
  }
  for (int64_t b = 0; b < batch.rows; ++b) {
    const auto row = all.begin() + b * (batch.length + 1);
    batch.tokens.insert(batch.tokens.end(), row, row + batch.length);
    batch.targets.insert(batch.targets.end(), row + 1, row + 1 + batch.length);
  }
  return batch;
}

}  // namespace

void add_dump_command(CLI::App& app) {
  struct Arguments {
    ConfigArguments config;
    std::string step = "latest";
    std::string tokens, init, out;
  };
  const auto a = std::make_shared<Arguments>();
  CLI::App& command = *app.add_subcommand(
      "dump", "write parameters, logits, loss and gradients of one batch to a safetensors file");
  add_config_arguments(command, a->config);
  command.add_option("--tokens", a->tokens, "safetensors file with tokens (B, T+1), int32")
      ->required();
  command.add_option("--init", a->init, "parameter values from this safetensors file");
  command.add_option("--step", a->step, "of a run folder: N | best | latest")
      ->capture_default_str();
  command.add_option("-o,--output", a->out, "safetensors file to write")->required();
  command.callback([a] {
    const RunConfig config = load_run_config(a->config.path, a->config.overrides);
    if (config.run.threads > 0) set_n_threads(static_cast<int>(config.run.threads));
    const DumpBatch batch = read_batch(a->tokens, config.model);
    ParameterStore store;
    Model model(config.model, store);
    store.allocate(Dtype::f32);
    if (!a->init.empty()) {
      load_init_file(a->init, store);
    } else if (std::filesystem::is_directory(a->config.path)) {
      const SelectedCheckpoint selected =
          select_checkpoint(a->config.path, parse_step(a->step), CheckpointUse::weights);
      for (const std::string& reason : selected.rejected) {
        std::cerr << "warning: " << reason << '\n';
      }
      selected.checkpoint.value().load_model(named_values(store));
    } else {
      initialise(config.model, store, static_cast<uint64_t>(config.init_seed()));
    }

    const TokenView tokens{batch.tokens.data(), batch.rows, batch.length};
    Tape tape;
    store.begin_gradients();
    const LmLoss loss =
        model.loss(tape, tokens, batch.targets.data(),
                   {.z_loss = config.loss.z_loss, .denominator = batch.rows * batch.length});
    tape.backward(loss.total);
    store.finish_gradients();
    const auto total = static_cast<float>(loss.stats->ce + loss.stats->z);
    const auto ce = static_cast<float>(loss.stats->ce);
    const auto z = static_cast<float>(loss.stats->z);
    Tape logits_tape;
    logits_tape.set_recording(false);
    const Tensor logits = logits_tape.value(model.logits(logits_tape, tokens));

    std::vector<TensorSource> tensors;
    for (const Parameter& p : store.parameters()) {
      tensors.emplace_back("param." + p.name, p.value);
      tensors.emplace_back("grad." + p.name, p.grad);
    }
    tensors.emplace_back("logits", logits);
    const std::vector<int64_t> shape{batch.rows, batch.length};
    tensors.emplace_back("tokens", StoredType::I32, shape, batch.tokens.data());
    tensors.emplace_back("targets", StoredType::I32, shape, batch.targets.data());
    const std::vector<int64_t> scalar;
    tensors.emplace_back("loss.total", StoredType::F32, scalar, &total);
    tensors.emplace_back("loss.ce", StoredType::F32, scalar, &ce);
    tensors.emplace_back("loss.z", StoredType::F32, scalar, &z);
    FileSystem files;
    write_safetensors(files, a->out, tensors);
  });
}

}  // namespace ballast
