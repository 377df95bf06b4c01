#include "train/data/file_data.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

#include "core/random.h"
#include "train/data/tokenizer.h"

namespace ballast {
namespace {

static_assert(std::endian::native == std::endian::little, "token files are read as they are");

int64_t token_bytes(DataKind kind) {
  return kind == DataKind::tokens ? 2 : 1;
}

std::string find_file(const std::string& name, const std::filesystem::path& config_dir) {
  const std::filesystem::path path(name);
  if (path.is_absolute() || config_dir.empty()) return name;
  const std::filesystem::path beside = config_dir / path;
  std::error_code ignored;
  if (std::filesystem::exists(beside, ignored)) return beside.lexically_normal().string();
  if (std::filesystem::exists(path, ignored)) return name;
  throw DataError(concat(name, ": no such file, neither beside the configuration (",
                         beside.string(), ") nor in the working directory"));
}

uint16_t id_at(std::span<const uint8_t> bytes, size_t i) {
  uint16_t id = 0;
  std::memcpy(&id, bytes.data() + 2 * i, sizeof(id));
  return id;
}

void check_text(const MappedFile& file) {
  const std::span<const uint8_t> text = file.bytes();
  if (const auto bad = find_invalid_utf8(text)) {
    const auto line = 1 + std::count(text.begin(), text.begin() + *bad, uint8_t{'\n'});
    throw DataError(concat(file.path(), ": byte ", *bad, ", on line ", line,
                           ", is not valid UTF-8; expected text in UTF-8"));
  }
}

void check_ids(const MappedFile& file, DataKind kind, int64_t vocab_size) {
  const std::span<const uint8_t> bytes = file.bytes();
  const auto n = bytes.size() / static_cast<size_t>(token_bytes(kind));
  const auto id = [&](size_t i) {
    return kind == DataKind::tokens ? int64_t{id_at(bytes, i)} : int64_t{bytes[i]};
  };
  uint16_t largest = 0;  // a plain maximum is vectorised; the culprit is looked for only if needed
  if (kind == DataKind::tokens) {
    for (size_t i = 0; i < n; ++i) largest = std::max(largest, id_at(bytes, i));
  } else {
    for (size_t i = 0; i < n; ++i) largest = std::max<uint16_t>(largest, bytes[i]);
  }
  if (largest < vocab_size) return;
  size_t position = 0;
  while (id(position) < vocab_size) ++position;
  throw DataError(concat(file.path(), ": token ", position, " has the id ", id(position),
                         "; expected ids below model.vocab_size = ", vocab_size));
}

/// Four independent lanes, so that a large file is hashed at the speed it can be read.
uint64_t hash_bytes(std::span<const uint8_t> bytes) {
  std::array<uint64_t, 4> lanes = {1, 2, 3, 4};
  size_t i = 0;
  for (; i + 32 <= bytes.size(); i += 32) {
    for (size_t lane = 0; lane < 4; ++lane) {
      uint64_t word = 0;
      std::memcpy(&word, bytes.data() + i + 8 * lane, sizeof(word));
      lanes[lane] = std::rotl((lanes[lane] ^ word) * 0x9E3779B97F4A7C15u, 29);
    }
  }
  uint64_t hash = mix64(bytes.size());
  for (const uint64_t lane : lanes) hash = mix64(hash ^ lane);
  for (; i < bytes.size(); ++i) hash = mix64(hash ^ bytes[i]);
  return hash;
}

}  // namespace

FileData::FileData(const DataConfig& config, int64_t vocab_size,
                   const std::filesystem::path& config_dir, int64_t copy_limit)
    : kind_(config.source) {
  files_.reserve(config.train.size() + config.val.size());
  const int64_t n = open_files(config.train, vocab_size, config_dir, copy_limit);
  if (config.val.empty()) {
    const auto n_train = static_cast<int64_t>(static_cast<double>(n) * (1.0 - config.val_fraction));
    train_ = {0, n_train};
    val_ = {n_train, n};
  } else {
    train_ = {0, n};
    val_ = {n, open_files(config.val, vocab_size, config_dir, copy_limit)};
  }
  fingerprint_ = mix64(fingerprint_ ^ static_cast<uint64_t>(train_.end));
  for (const Split split : {Split::train, Split::val}) {
    const int64_t have = *n_tokens(split);
    if (have < config.seq_len + 1) {
      throw DataError(
          concat(split == Split::train ? "data.train" : "data.val", ": the ",
                 split == Split::train ? "training" : "validation", " split has ", have,
                 " tokens; expected at least data.seq_len + 1 = ", config.seq_len + 1,
                 split == Split::val && config.val.empty()
                     ? concat(" (data.val_fraction = ", config.val_fraction, " of ", n, ")")
                     : std::string()));
    }
  }
}

int64_t FileData::open_files(const std::vector<std::string>& paths, int64_t vocab_size,
                             const std::filesystem::path& config_dir, int64_t copy_limit) {
  int64_t end = ends_.empty() ? 0 : ends_.back();
  for (const std::string& path : paths) {
    const MappedFile& file = files_.emplace_back(find_file(path, config_dir), copy_limit);
    const auto size = static_cast<int64_t>(file.bytes().size());
    if (size % token_bytes(kind_) != 0) {
      throw DataError(concat(file.path(), ": has ", size,
                             " bytes; expected an even number, two for each token"));
    }
    if (kind_ == DataKind::text) check_text(file);
    check_ids(file, kind_, vocab_size);
    fingerprint_ = mix64(fingerprint_ ^ hash_bytes(file.bytes()));
    end += size / token_bytes(kind_);
    ends_.push_back(end);
  }
  return end;
}

std::optional<int64_t> FileData::n_tokens(Split split) const {
  return range(split).end - range(split).begin;
}

std::optional<double> FileData::bytes_per_token() const {
  return kind_ == DataKind::text ? std::optional(1.0) : std::nullopt;
}

void FileData::window(Split split, int64_t index, std::span<int32_t> out) const {
  const int64_t count = static_cast<int64_t>(out.size());
  check(index >= 0 && index + count <= *n_tokens(split), "[window] tokens ", index, " to ",
        index + count, " of a split of ", *n_tokens(split));
  int64_t position = range(split).begin + index;
  auto file =
      static_cast<size_t>(std::upper_bound(ends_.begin(), ends_.end(), position) - ends_.begin());
  for (size_t done = 0; done < out.size(); ++file) {
    files_[file].check_unchanged();
    const std::span<const uint8_t> bytes = files_[file].bytes();
    const int64_t begin = file == 0 ? 0 : ends_[file - 1];
    const auto first = static_cast<size_t>(position - begin);
    const size_t n = std::min(out.size() - done, static_cast<size_t>(ends_[file] - position));
    if (kind_ == DataKind::tokens) {
      for (size_t i = 0; i < n; ++i) out[done + i] = id_at(bytes, first + i);
    } else {
      for (size_t i = 0; i < n; ++i) out[done + i] = bytes[first + i];
    }
    done += n;
    position += static_cast<int64_t>(n);
  }
}

}  // namespace ballast
