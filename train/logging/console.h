// What a person sees while a run trains, on stderr: one refreshed line on a terminal, plain lines
// elsewhere. Nothing that happens to the terminal ends a run.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "train/logging/record.h"

namespace ballast {

/// A file descriptor that takes lines and, if it can, a progress line that stays the last one.
/// Write errors (a closed pipe, a full pty) silence it for good.
class Console {
 public:
  /// stderr. No refreshing when it is no terminal, with NO_COLOR, or with TERM=dumb.
  static Console for_stderr();
  /// What for_stderr() decides by: the environment may refuse what a terminal could do.
  static bool may_refresh(bool is_terminal);
  /// columns: width of the terminal; 0 = ask it.
  Console(int fd, bool refreshes, size_t columns = 0)
      : fd_(fd), refreshes_(refreshes), columns_(columns) {}
  Console(const Console&) = delete;
  Console& operator=(const Console&) = delete;
  Console(Console&&) = default;
  /// Leaves the progress line standing.
  ~Console() { finish(); }

  bool refreshes() const { return refreshes_; }
  /// Replaces the progress line; clipped to the terminal's width. Only if refreshes().
  void progress(std::string_view text);
  /// A line of its own; the progress line moves below it.
  void line(std::string_view text);
  void warning(std::string_view text);
  /// Ends the progress line, so that other output begins on a line of its own.
  void finish();

 private:
  void write_all(std::string_view text);
  size_t width() const;

  int fd_;
  bool refreshes_;
  size_t columns_;
  std::string progress_;  ///< as it stands on the screen, empty if there is none
  std::string buffer_;
};

/// "step 1200/2000  loss 1.8342  grad norm 0.713  lr 9.3e-04  12.3k tok/s  ETA 1:23".
class ConsoleSink : public MetricSink {
 public:
  struct Options {
    int64_t steps = 0;           ///< of the whole run
    int64_t console_every = 10;  ///< plain lines; 0 = only evaluations and the last step
    std::chrono::milliseconds refresh{100};
  };
  ConsoleSink(Console& console, Options options) : console_(&console), options_(options) {}

  void write(const StepRecord& record) override;

 private:
  std::string describe(const StepRecord& record) const;

  Console* console_;
  Options options_;
  std::optional<std::chrono::steady_clock::time_point> drawn_;
  // The first record of this session: the pace since then gives the time that is left.
  bool started_ = false;
  int64_t first_step_ = 0;
  double first_time_ = 0.0;
};

/// "0:07", "12:34", "3:04:05", "2d 03:04"; "-" if not finite.
std::string duration_text(double seconds);
/// "873", "12.3k", "1.20M".
std::string rate_text(double per_second);

}  // namespace ballast
