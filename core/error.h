// The errors of the program: one class for each exit code a user can meet.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace ballast {

/// Joins its arguments as operator<< prints them.
template <class... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

/// The user's command line or configuration is wrong (exit code 2).
/// what() reads "file:line:column: key: what is wrong; what was expected".
struct ConfigError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// The user's data cannot be used (exit code 3).
struct DataError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// No valid checkpoint where one was asked for (exit code 4).
struct CheckpointError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Reading or writing failed: permissions, a full disk (exit code 5).
struct IoError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// A stability policy ended the run (exit code 16).
struct StabilityError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// A signal ended the run after a good checkpoint: resume it (exit code 75).
struct Interrupted : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// A broken promise of our own code.
struct InternalError : std::logic_error {
  using std::logic_error::logic_error;
};

/// Throws std::invalid_argument with the joined parts unless `holds`; they are formatted only then.
/// Parts begin with the caller in brackets: check(n > 0, "[rope] head_dim is ", n, "; expected >
/// 0").
template <class... Parts>
void check(bool holds, const Parts&... parts) {
  if (!holds) throw std::invalid_argument(concat(parts...));
}

/// The same for what only a fault of ours can break.
template <class... Parts>
void check_internal(bool holds, const Parts&... parts) {
  if (!holds) throw InternalError(concat("internal error: ", parts...));
}

}  // namespace ballast
