#include "train/loop/signals.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "core/error.h"
#include "tests/support/catch.h"

namespace ballast {

TEST_CASE("the first signal is noted, and the handlers before come back", "[train][signals]") {
  const int signal = GENERATE(SIGINT, SIGTERM);
  struct sigaction before {};
  ::sigaction(signal, nullptr, &before);
  {
    const ScopedSignalHandlers handlers;
    CHECK(ScopedSignalHandlers::received() == 0);
    ::raise(signal);
    CHECK(ScopedSignalHandlers::received() == signal);
    CHECK_THROWS_AS(ScopedSignalHandlers(), InternalError);
  }
  struct sigaction after {};
  ::sigaction(signal, nullptr, &after);
  CHECK(after.sa_handler == before.sa_handler);
  const ScopedSignalHandlers again;
  CHECK(ScopedSignalHandlers::received() == 0);
}

TEST_CASE("the second signal ends the process with 130 or 143", "[train][signals]") {
  const int second = GENERATE(SIGINT, SIGTERM);
  const pid_t child = ::fork();
  if (child == 0) {
    const ScopedSignalHandlers handlers;
    ::raise(SIGINT);
    ::raise(second);
    ::_exit(1);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 128 + second);
}

TEST_CASE("a closed pipe is an error and not a death once write signals are ignored",
          "[train][signals]") {
  const pid_t child = ::fork();
  if (child == 0) {
    ignore_write_signals();
    int ends[2];
    if (::pipe(ends) != 0) ::_exit(1);
    ::close(ends[0]);
    ::raise(SIGXFSZ);
    ::_exit(::write(ends[1], "x", 1) == -1 && errno == EPIPE ? 0 : 1);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
}

}  // namespace ballast
