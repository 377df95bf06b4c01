// The program as a person runs it: a process of its own, with an exit code, two outputs and
// signals.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "tests/support/temporary_folder.h"

namespace ballast {

struct Outcome {
  int code = -1;    ///< exit code; -1 if a signal ended the process
  int signal = 0;   ///< the signal that ended it
  std::string out;  ///< stdout
  std::string err;  ///< stderr
};

/// A process of the program; killed and reaped if the test ends first.
class Program {
 public:
  /// file_size_limit: of RLIMIT_FSIZE, in bytes; a file that would grow beyond it is a full disk.
  explicit Program(const std::vector<std::string>& arguments, int64_t file_size_limit = -1) {
    const std::string name = BALLAST_BINARY_DIR "/ballast";
    const std::string out = (outputs_ / "out").string();
    const std::string err = (outputs_ / "err").string();
    std::vector<char*> argv = {const_cast<char*>(name.c_str())};
    for (const std::string& a : arguments) argv.push_back(const_cast<char*>(a.c_str()));
    argv.push_back(nullptr);
    pid_ = ::fork();
    if (pid_ < 0) throw std::runtime_error("fork failed");
    if (pid_ > 0) return;
    // Only what is safe between fork and exec: this process may have threads.
    const int out_fd = ::open(out.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0666);
    const int err_fd = ::open(err.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0666);
    const int in_fd = ::open("/dev/null", O_RDONLY);
    if (::dup2(in_fd, 0) < 0 || ::dup2(out_fd, 1) < 0 || ::dup2(err_fd, 2) < 0) ::_exit(126);
    if (file_size_limit >= 0) {
      rlimit limit{};
      limit.rlim_cur = limit.rlim_max = static_cast<rlim_t>(file_size_limit);
      ::setrlimit(RLIMIT_FSIZE, &limit);
    }
    ::execv(name.c_str(), argv.data());
    ::_exit(127);
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;
  ~Program() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }

  pid_t pid() const { return pid_; }
  void send(int signal) const { ::kill(pid_, signal); }
  /// What stderr holds so far.
  std::string err() const { return contents_of(outputs_ / "err"); }

  bool has_ended() {
    if (pid_ > 0 && ::waitpid(pid_, &status_, WNOHANG) == pid_) pid_ = 0;
    return pid_ == 0;
  }
  /// Waits until condition() holds, the process ends, or a minute has passed; returns whether it
  /// holds.
  template <class F>
  bool wait_until(F&& condition) {
    for (int i = 0; i < 60000; ++i) {
      if (condition()) return true;
      if (has_ended()) return condition();
      ::usleep(1000);
    }
    return false;
  }
  Outcome wait() {
    if (pid_ > 0 && ::waitpid(pid_, &status_, 0) != pid_)
      throw std::runtime_error("waitpid failed");
    pid_ = 0;
    Outcome outcome;
    if (WIFEXITED(status_)) outcome.code = WEXITSTATUS(status_);
    if (WIFSIGNALED(status_)) outcome.signal = WTERMSIG(status_);
    outcome.out = contents_of(outputs_ / "out");
    outcome.err = contents_of(outputs_ / "err");
    return outcome;
  }

 private:
  TemporaryFolder outputs_;
  pid_t pid_ = 0;
  int status_ = 0;
};

inline Outcome run_program(const std::vector<std::string>& arguments,
                           int64_t file_size_limit = -1) {
  return Program(arguments, file_size_limit).wait();
}

}  // namespace ballast
