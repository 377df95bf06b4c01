// metrics.jsonl and events.jsonl: one flat JSON object a line.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "train/files/file_system.h"
#include "train/logging/record.h"

namespace ballast {

/// Appends `{"step":3,"train/loss":2.5}` and a line end. Doubles take the shortest text that reads
/// back to the same bits; a non-finite one is null.
void append_json_line(std::string& out, const Record& record);

/// Writes each record as one complete line with one write(2).
class JsonlFile : public MetricSink {
 public:
  /// Opens for appending. Throws IoError.
  JsonlFile(FileSystem& files, const std::filesystem::path& path);

  /// Throws IoError if the disk is full; the file then ends with the line before.
  void write(const Record& record) override;
  void sync() override { file_.sync(); }

 private:
  OutputFile file_;
  std::string line_;  // reused
};

struct TrimmedLog {
  int64_t kept = 0;           ///< lines
  int64_t last_step = -1;     ///< of the last kept line
  int64_t dropped_bytes = 0;  ///< later steps, or a line that was cut off
};

/// Cuts metrics.jsonl before the first line of step `step` or later, or that is not whole, so that
/// a run resumed at `step` continues the file as if it had never stopped. A missing file is fine.
TrimmedLog trim_metrics(FileSystem& files, const std::filesystem::path& path, int64_t step);

/// Drops from events.jsonl the events that a run resumed at `step` will meet again: those of later
/// steps, and those of `step` itself other than its checkpoint and what earlier resumes of it left.
void trim_events(FileSystem& files, const std::filesystem::path& path, int64_t step);

}  // namespace ballast
