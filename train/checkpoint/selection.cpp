#include "train/checkpoint/selection.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "core/error.h"

namespace ballast {

namespace fs = std::filesystem;

namespace {

std::optional<int64_t> parse_count(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = error == std::errc() && end == text.data() + text.size();
  return whole && value >= 0 ? std::optional(value) : std::nullopt;
}

std::optional<Manifest> readable_manifest(const fs::path& checkpoint) {
  try {
    return read_manifest(checkpoint);
  } catch (const CheckpointError&) {
    return std::nullopt;
  }
}

/// The cheap part of validity: all files are there in their full size.
bool looks_whole(const fs::path& checkpoint, const Manifest& manifest) {
  return std::all_of(manifest.files.begin(), manifest.files.end(), [&](const auto& entry) {
    std::error_code error;
    const auto size = fs::file_size(checkpoint / entry.first, error);
    return !error && static_cast<int64_t>(size) == entry.second.size;
  });
}

std::optional<Checkpoint> first_valid(const std::vector<CheckpointRef>& candidates,
                                      CheckpointUse use, std::vector<std::string>& rejected) {
  for (const CheckpointRef& ref : candidates) {
    try {
      return Checkpoint::open(ref.path, use);
    } catch (const CheckpointError& e) {
      rejected.emplace_back(e.what());
    }
  }
  return std::nullopt;
}

/// Those with a recorded validation loss, lowest first; of equals, the newer one.
std::vector<CheckpointRef> by_val_loss(const std::vector<CheckpointRef>& all) {
  std::vector<std::pair<double, CheckpointRef>> scored;
  for (const CheckpointRef& ref : all) {
    const auto manifest = readable_manifest(ref.path);
    if (manifest && manifest->val_loss) scored.emplace_back(*manifest->val_loss, ref);
  }
  std::stable_sort(scored.begin(), scored.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<CheckpointRef> refs;
  for (auto& [loss, ref] : scored) refs.push_back(std::move(ref));
  return refs;
}

std::string step_list(const std::vector<CheckpointRef>& refs) {
  std::string text;
  for (const CheckpointRef& ref : refs)
    text += (text.empty() ? "" : ", ") + std::to_string(ref.step);
  return text.empty() ? "none" : text;
}

SelectedCheckpoint newest_valid(const fs::path& run_dir, CheckpointUse use) {
  SelectedCheckpoint selected;
  const std::vector<CheckpointRef> all = find_checkpoints(run_dir);
  selected.checkpoint = first_valid(all, use, selected.rejected);
  if (selected.checkpoint || all.empty()) return selected;
  throw CheckpointError(concat(run_dir.string(), ": none of its ", all.size(),
                               " checkpoints is valid; the newest: ", selected.rejected.front()));
}

void move_aside(FileSystem& files, const fs::path& from, const fs::path& to) {
  files.remove(to);
  if (!files.rename_new(from, to)) throw IoError(concat(to.string(), ": cannot rename: it exists"));
}

}  // namespace

CheckpointSelection parse_resume(std::string_view text) {
  using Kind = CheckpointSelection::Kind;
  if (text == "auto") return {Kind::automatic, 0, {}};
  if (text == "latest") return {Kind::latest, 0, {}};
  if (text.starts_with("step:")) {
    const auto step = parse_count(text.substr(5));
    if (!step)
      throw ConfigError(concat("--resume ", text, ": expected step:N with a whole number N"));
    return {Kind::step, *step, {}};
  }
  if (text.empty()) throw ConfigError("--resume: expected auto, latest, step:N or a path");
  return {Kind::path, 0, fs::path(text)};
}

CheckpointSelection parse_step(std::string_view text) {
  using Kind = CheckpointSelection::Kind;
  if (text == "best") return {Kind::best, 0, {}};
  if (text == "latest") return {Kind::latest, 0, {}};
  const auto step = parse_count(text);
  if (!step) throw ConfigError(concat("--step ", text, ": expected a step number, best or latest"));
  return {Kind::step, *step, {}};
}

std::vector<CheckpointRef> find_checkpoints(const fs::path& run_dir) {
  std::vector<CheckpointRef> found;
  std::error_code error;
  const fs::path folder = checkpoints_folder(run_dir);
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (!is_checkpoint_name(name)) continue;
    const auto step = parse_count(std::string_view(name).substr(5));
    if (step && name == checkpoint_name(*step)) found.push_back({*step, it->path()});
  }
  if (error && error != std::errc::no_such_file_or_directory) {
    throw_io_error(folder, "read the folder", error.value());
  }
  std::sort(found.begin(), found.end(),
            [](const auto& a, const auto& b) { return a.step > b.step; });
  return found;
}

SelectedCheckpoint select_checkpoint(const fs::path& run_dir, const CheckpointSelection& selection,
                                     CheckpointUse use) {
  using Kind = CheckpointSelection::Kind;
  const auto existing = [](SelectedCheckpoint selected, const fs::path& dir) {
    if (!selected.checkpoint) throw CheckpointError(concat(dir.string(), ": has no checkpoint"));
    return selected;
  };
  switch (selection.kind) {
    case Kind::automatic:
      return newest_valid(run_dir, use);
    case Kind::latest:
      return existing(newest_valid(run_dir, use), run_dir);
    case Kind::best: {
      SelectedCheckpoint selected;
      const std::vector<CheckpointRef> scored = by_val_loss(find_checkpoints(run_dir));
      selected.checkpoint = first_valid(scored, use, selected.rejected);
      if (selected.checkpoint) return selected;
      throw CheckpointError(concat(run_dir.string(), ": no valid checkpoint has a validation loss",
                                   selected.rejected.empty() ? "" : "; the best: ",
                                   selected.rejected.empty() ? "" : selected.rejected.front(),
                                   "; expected --step latest or a step number"));
    }
    case Kind::step: {
      const fs::path path = checkpoints_folder(run_dir) / checkpoint_name(selection.step);
      if (!is_folder(path)) {
        throw CheckpointError(concat(run_dir.string(), ": has no checkpoint of step ",
                                     selection.step,
                                     "; it has: ", step_list(find_checkpoints(run_dir))));
      }
      return {Checkpoint::open(path, use), {}};
    }
    case Kind::path:
      if (is_folder(checkpoints_folder(selection.path))) {
        return existing(newest_valid(selection.path, use), selection.path);
      }
      return {Checkpoint::open(selection.path, use), {}};
  }
  throw InternalError("internal error: unknown checkpoint selection");
}

void remove_stale_folders(FileSystem& files, const fs::path& run_dir) {
  std::vector<fs::path> stale;
  std::error_code error;
  for (fs::directory_iterator it(checkpoints_folder(run_dir), error), end; !error && it != end;
       it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name.starts_with(".tmp-") || name.starts_with(".trash-")) stale.push_back(it->path());
  }
  for (const fs::path& path : stale) files.remove(path);
}

void prune_checkpoints(FileSystem& files, const fs::path& run_dir, int64_t keep) {
  const std::vector<CheckpointRef> all = find_checkpoints(run_dir);
  std::optional<double> best_loss;
  const CheckpointRef* best = nullptr;
  std::vector<bool> whole;
  for (const CheckpointRef& ref : all) {
    const auto manifest = readable_manifest(ref.path);
    whole.push_back(manifest && looks_whole(ref.path, *manifest));
    if (whole.back() && manifest->val_loss && (!best_loss || *manifest->val_loss < *best_loss)) {
      best_loss = manifest->val_loss;
      best = &ref;
    }
  }
  int64_t counted = 0;
  for (size_t i = 0; i < all.size(); ++i) {
    if (counted < std::max<int64_t>(keep, 1) || &all[i] == best) {
      counted += whole[i] ? 1 : 0;
      continue;
    }
    // Renamed first: a checkpoint that is half removed must not be found.
    const fs::path trash =
        all[i].path.parent_path() / (".trash-" + all[i].path.filename().string());
    move_aside(files, all[i].path, trash);
    files.remove(trash);
  }
}

std::vector<fs::path> abandon_checkpoints_after(FileSystem& files, const fs::path& run_dir,
                                                int64_t step) {
  std::vector<fs::path> moved;
  for (const CheckpointRef& ref : find_checkpoints(run_dir)) {
    if (ref.step <= step) continue;
    const fs::path to = ref.path.string() + ".abandoned";
    move_aside(files, ref.path, to);
    moved.push_back(to);
  }
  if (!moved.empty()) files.sync_folder(checkpoints_folder(run_dir));
  return moved;
}

}  // namespace ballast
