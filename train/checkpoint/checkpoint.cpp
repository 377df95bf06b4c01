#include "train/checkpoint/checkpoint.h"

#include <unistd.h>

#include <array>
#include <cstdio>
#include <exception>
#include <set>
#include <utility>

#include "core/error.h"

namespace ballast {

namespace fs = std::filesystem;

namespace {

constexpr int64_t kFormat = 1;
constexpr int64_t kMaxTextBytes = int64_t{64} << 20;
constexpr const char* kModelFile = "model.safetensors";
constexpr const char* kOptimizerFile = "optimizer.safetensors";
constexpr const char* kStateFile = "state.json";
constexpr const char* kManifestFile = "MANIFEST.json";
constexpr const char* kManifestHash = "manifest_xxh3_128";

template <class... Parts>
[[noreturn]] void invalid(const fs::path& path, const Parts&... parts) {
  throw CheckpointError(concat(path.string(), ": ", parts...));
}

Manifest::File write_tensors(FileSystem& files, const fs::path& path,
                             std::span<const NamedTensor> tensors) {
  std::vector<TensorSource> sources;
  for (const NamedTensor& t : tensors) sources.emplace_back(t.name, t.tensor);
  OutputFile out(files, path, OutputFile::Mode::create);
  write_safetensors(out, sources);
  out.sync();
  return {out.size(), out.hash().hex()};
}

Manifest::File write_text(FileSystem& files, const fs::path& path, std::string_view text) {
  OutputFile out(files, path, OutputFile::Mode::create);
  out.write(text);
  out.sync();
  return {out.size(), out.hash().hex()};
}

std::string manifest_text(const Manifest& manifest) {
  const RunIdentity& id = manifest.identity;
  Json json = {{"format", kFormat},
               {"step", manifest.step},
               {"version", id.version},
               {"config_hash", id.config_hash},
               {"data_fingerprint", id.data_fingerprint},
               {"isa", id.isa},
               {"threads", id.threads},
               {"files", Json::object()}};
  if (manifest.val_loss) json["val_loss"] = *manifest.val_loss;
  for (const auto& [name, file] : manifest.files) {
    json["files"][name] = {{"size", file.size}, {"xxh3_128", file.hash}};
  }
  json[kManifestHash] = hash_of(to_text(json)).hex();
  return json.dump(2) + "\n";
}

Manifest parse_manifest(std::string_view text) {
  Json json = parse_json(text);
  const int64_t format = json.at("format").get<int64_t>();
  if (format != kFormat) {
    throw std::runtime_error(
        concat("is format ", format, "; this version of the program reads format ", kFormat));
  }
  const auto hash = json.at(kManifestHash).get<std::string>();
  json.erase(kManifestHash);
  if (hash_of(to_text(json)).hex() != hash) throw std::runtime_error("does not match its own hash");
  Manifest manifest;
  manifest.step = json.at("step").get<int64_t>();
  manifest.identity.version = json.at("version").get<std::string>();
  manifest.identity.config_hash = json.at("config_hash").get<std::string>();
  manifest.identity.data_fingerprint = json.at("data_fingerprint").get<std::string>();
  manifest.identity.isa = json.at("isa").get<std::string>();
  manifest.identity.threads = json.at("threads").get<int64_t>();
  if (json.contains("val_loss")) manifest.val_loss = json.at("val_loss").get<double>();
  for (const auto& [name, file] : json.at("files").items()) {
    manifest.files[name] = {file.at("size").get<int64_t>(), file.at("xxh3_128").get<std::string>()};
  }
  return manifest;
}

/// The file as the manifest describes it, or CheckpointError.
void verify_file(const fs::path& folder, const Manifest& manifest, const std::string& name) {
  const auto it = manifest.files.find(name);
  if (it == manifest.files.end()) invalid(folder, kManifestFile, " does not list ", name);
  const InputFile file(folder / name);
  if (file.size() != it->second.size) {
    invalid(folder, name, " has ", file.size(), " bytes; expected ", it->second.size,
            " (truncated or overwritten)");
  }
  if (file.hash().hex() != it->second.hash) {
    invalid(folder, name, " does not match its hash; its bytes were altered");
  }
}

SafetensorsFile open_tensors(const fs::path& folder, const Manifest& manifest, const char* name) {
  verify_file(folder, manifest, name);
  SafetensorsFile file(folder / name);
  for (const StoredTensor& t : file.tensors()) {
    if (file.has_non_finite(t)) invalid(folder, name, ": ", t.name, " holds a NaN or an infinity");
  }
  return file;
}

/// Each wanted tensor is in the file with its shape and type, and nothing else is.
void check_agrees(const fs::path& folder, const SafetensorsFile& file,
                  std::span<const NamedTensor> wanted, std::string_view what) {
  std::set<std::string_view> names;
  for (const NamedTensor& w : wanted) {
    names.insert(w.name);
    const StoredTensor* stored = file.find(w.name);
    if (stored == nullptr) invalid(folder, what, " ", w.name, " is not in the checkpoint");
    if (!same_shape(stored->shape, w.tensor.shape)) {
      invalid(folder, what, " ", w.name, " is ", shape_text(stored->shape),
              " in the checkpoint but ", w.tensor.shape, " in the model");
    }
    if (stored->type != stored_type_of(w.tensor.dtype)) {
      invalid(folder, what, " ", w.name, " is ", name_of(stored->type), " in the checkpoint but ",
              name_of(stored_type_of(w.tensor.dtype)), " in the model");
    }
  }
  for (const StoredTensor& t : file.tensors()) {
    if (names.count(t.name) == 0) invalid(folder, what, " ", t.name, " is not in the model");
  }
}

void copy_all(const SafetensorsFile& file, std::span<const NamedTensor> wanted) {
  for (const NamedTensor& w : wanted) file.read(*file.find(w.name), w.tensor);
}

}  // namespace

std::vector<NamedTensor> named_values(const ParameterStore& store) {
  std::vector<NamedTensor> tensors;
  for (const Parameter& p : store.parameters()) tensors.push_back({p.name, p.value});
  return tensors;
}

std::vector<NamedTensor> named_views(const ParameterStore& store, const Slab& slab,
                                     const std::string& prefix) {
  std::vector<NamedTensor> tensors;
  for (const Parameter& p : store.parameters()) tensors.push_back({prefix + p.name, slab.view(p)});
  return tensors;
}

std::vector<std::string> differences(const RunIdentity& saved, const RunIdentity& now) {
  std::vector<std::string> found;
  const auto compare = [&found](std::string_view what, const auto& before, const auto& after) {
    if (before == after) return;
    found.push_back(concat(what, " was ", before, " when the checkpoint was written and is ", after,
                           " now; the run will not repeat bit for bit"));
  };
  compare("the number of threads", saved.threads, now.threads);
  compare("the instruction set", saved.isa, now.isa);
  compare("the program's version", saved.version, now.version);
  compare("the training data's fingerprint", saved.data_fingerprint, now.data_fingerprint);
  return found;
}

fs::path checkpoints_folder(const fs::path& run_dir) {
  return run_dir / "checkpoints";
}

std::string checkpoint_name(int64_t step) {
  std::array<char, 32> name;
  std::snprintf(name.data(), name.size(), "step-%08lld", static_cast<long long>(step));
  return name.data();
}

bool is_checkpoint_name(std::string_view name) {
  constexpr std::string_view kPrefix = "step-";
  return name.size() > kPrefix.size() && name.starts_with(kPrefix) &&
         name.find_first_not_of("0123456789", kPrefix.size()) == std::string_view::npos;
}

fs::path write_checkpoint(FileSystem& files, const fs::path& run_dir,
                          const CheckpointContents& contents) {
  check(contents.step >= 0, "[checkpoint] step is ", contents.step);
  check(contents.state.is_object(), "[checkpoint] the state is not a JSON object");
  const std::string state_text = to_text(contents.state);
  const fs::path parent = checkpoints_folder(run_dir);
  const fs::path target = parent / checkpoint_name(contents.step);
  const fs::path temporary =
      parent / concat(".tmp-", checkpoint_name(contents.step), "-", ::getpid());
  files.make_folders(parent);
  files.remove(temporary);
  try {
    check_internal(files.make_folder(temporary), temporary.string(), " exists already");
    Manifest manifest;
    manifest.step = contents.step;
    manifest.identity = contents.identity;
    manifest.val_loss = contents.val_loss;
    manifest.files[kModelFile] = write_tensors(files, temporary / kModelFile, contents.model);
    manifest.files[kOptimizerFile] =
        write_tensors(files, temporary / kOptimizerFile, contents.optimizer);
    manifest.files[kStateFile] = write_text(files, temporary / kStateFile, state_text);
    write_text(files, temporary / kManifestFile, manifest_text(manifest));
    files.sync_folder(temporary);
    if (!files.rename_new(temporary, target)) files.rename_over(temporary, target);
  } catch (...) {
    // The disk may be full of just these files. An error here must not hide the first one.
    std::error_code ignored;
    fs::remove_all(temporary, ignored);
    throw;
  }
  files.sync_folder(parent);
  files.remove(temporary);  // holds what was replaced, if anything
  return target;
}

Manifest read_manifest(const fs::path& checkpoint) {
  const fs::path path = checkpoint / kManifestFile;
  if (!is_folder(checkpoint)) invalid(checkpoint, "is not a checkpoint folder");
  if (!path_exists(path)) invalid(checkpoint, "has no ", kManifestFile);
  try {
    return parse_manifest(read_text_file(path, kMaxTextBytes));
  } catch (const std::runtime_error& e) {
    invalid(checkpoint, kManifestFile, " ", e.what());
  } catch (const Json::exception& e) {
    invalid(checkpoint, kManifestFile, " lacks a value: ", e.what());
  }
}

Checkpoint Checkpoint::open(const fs::path& path, CheckpointUse use) {
  Checkpoint checkpoint;
  checkpoint.path_ = path;
  checkpoint.manifest_ = read_manifest(path);
  const Manifest& manifest = checkpoint.manifest_;
  const std::string name = path.filename().string();
  if (is_checkpoint_name(name) && name != checkpoint_name(manifest.step)) {
    invalid(path, "holds step ", manifest.step, "; was the folder renamed?");
  }
  try {
    verify_file(path, manifest, kStateFile);
    checkpoint.state_ = parse_json(read_text_file(path / kStateFile, kMaxTextBytes));
    checkpoint.model_ = open_tensors(path, manifest, kModelFile);
    if (use == CheckpointUse::training)
      checkpoint.optimizer_ = open_tensors(path, manifest, kOptimizerFile);
  } catch (const CheckpointError&) {
    throw;
  } catch (const std::runtime_error& e) {
    throw CheckpointError(e.what());
  }
  return checkpoint;
}

void Checkpoint::load_model(std::span<const NamedTensor> model) const {
  check_agrees(path_, *model_, model, "parameter");
  copy_all(*model_, model);
}

void Checkpoint::load(std::span<const NamedTensor> model,
                      std::span<const NamedTensor> optimizer) const {
  check_internal(optimizer_.has_value(),
                 "a checkpoint opened for its weights was loaded for training");
  check_agrees(path_, *model_, model, "parameter");
  check_agrees(path_, *optimizer_, optimizer, "optimizer state");
  copy_all(*model_, model);
  copy_all(*optimizer_, optimizer);
}

}  // namespace ballast
