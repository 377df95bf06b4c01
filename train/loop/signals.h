// Signals that end a run in good order.
#pragma once

#include <csignal>

namespace ballast {

/// While one lives, the first SIGINT or SIGTERM only leaves a note: the loop finishes its step,
/// writes a checkpoint and exits 75. The second one ends the process at once with 130 or 143. The
/// handlers that were there come back afterwards. At most one at a time.
class ScopedSignalHandlers {
 public:
  ScopedSignalHandlers();
  ScopedSignalHandlers(const ScopedSignalHandlers&) = delete;
  ScopedSignalHandlers& operator=(const ScopedSignalHandlers&) = delete;
  ~ScopedSignalHandlers();

  /// SIGINT or SIGTERM once it came, else 0.
  static int received();

 private:
  struct sigaction old_interrupt_ {};
  struct sigaction old_terminate_ {};
};

/// For main: a closed pipe (SIGPIPE) and a file size limit (SIGXFSZ) become errors of write(2).
void ignore_write_signals();

}  // namespace ballast
