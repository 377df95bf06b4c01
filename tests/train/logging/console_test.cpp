#include "train/logging/console.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <limits>

#include "tests/support/catch.h"

namespace ballast {

namespace {

/// A pipe in place of the screen: a bare machine may have no pseudo-terminals.
class Screen {
 public:
  static Screen pipe() {
    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    return Screen(ends[0], ends[1]);
  }
  ~Screen() {
    for (const int fd : {in_, out_}) ::close(fd);
  }
  int fd() const { return out_; }
  /// All that was written since the last call.
  std::string text() {
    ::fcntl(in_, F_SETFL, O_NONBLOCK);
    std::string all;
    std::array<char, 4096> piece;
    for (ssize_t n; (n = ::read(in_, piece.data(), piece.size())) > 0;) {
      all.append(piece.data(), static_cast<size_t>(n));
    }
    return all;
  }

 private:
  Screen(int in, int out) : in_(in), out_(out) {}
  int in_, out_;
};

void fill(StepRecord& record, int64_t step) {
  record.begin(step);
  record.add("tokens", (step + 1) * 100);
  record.add("time_s", 2.0 * static_cast<double>(step));
  record.add("train/loss", 1.83421);
  record.add("optim/lr", 9.3e-4);
  record.add("optim/grad_norm", 0.7131);
  record.add("perf/tokens_per_s", 12345.0);
}

}  // namespace

TEST_CASE("durations and rates are short", "[train][logging]") {
  CHECK(duration_text(7.4) == "0:07");
  CHECK(duration_text(754) == "12:34");
  CHECK(duration_text(59.6) == "1:00");
  CHECK(duration_text(3 * 3600 + 245) == "3:04:05");
  CHECK(duration_text(2 * 86400 + 3 * 3600 + 240) == "2d 03:04");
  CHECK(duration_text(std::nan("")) == "-");
  CHECK(duration_text(std::numeric_limits<double>::infinity()) == "-");
  CHECK(rate_text(873) == "873");
  CHECK(rate_text(999.6) == "1.0k");
  CHECK(rate_text(12345) == "12.3k");
  CHECK(rate_text(1.2e6) == "1.20M");
}

TEST_CASE("without a terminal there is a plain line every console_every steps",
          "[train][logging]") {
  Screen screen = Screen::pipe();
  Console console(screen.fd(), false);
  ConsoleSink sink(console, {25, 10, std::chrono::milliseconds(0)});
  StepRecord record;
  for (int64_t s = 0; s < 25; ++s) {
    fill(record, s);
    if (s == 12) record.add("val/loss", 2.25);
    sink.write(record);
  }
  CHECK(screen.text() ==
        "step 0/25  loss 1.8342  grad norm 0.713  lr 9.3e-04  12.3k tok/s\n"
        "step 10/25  loss 1.8342  grad norm 0.713  lr 9.3e-04  12.3k tok/s  ETA 0:28\n"
        "step 12/25  loss 1.8342  grad norm 0.713  lr 9.3e-04  12.3k tok/s  ETA 0:24  val loss "
        "2.2500\n"
        "step 20/25  loss 1.8342  grad norm 0.713  lr 9.3e-04  12.3k tok/s  ETA 0:08\n"
        "step 24/25  loss 1.8342  grad norm 0.713  lr 9.3e-04  12.3k tok/s  ETA 0:00\n");
}

TEST_CASE("on a terminal one line is refreshed and never wraps", "[train][logging]") {
  Screen screen = Screen::pipe();
  {
    Console console(screen.fd(), true, 30);
    ConsoleSink sink(console, {25, 10, std::chrono::milliseconds(0)});
    StepRecord record;
    fill(record, 0);
    sink.write(record);
    CHECK(screen.text() == "\r\033[Kstep 0/25  loss 1.8342  grad ");  // 29 of 30 columns
    console.warning("low\033[2J disk\n");
    CHECK(screen.text() == "\r\033[Kwarning: low?[2J disk?\nstep 0/25  loss 1.8342  grad ");
    fill(record, 1);
    sink.write(record);
    CHECK(screen.text() == "\r\033[Kstep 1/25  loss 1.8342  grad ");
  }
  CHECK(screen.text() == "\n");
}

TEST_CASE("a terminal is refreshed no more often than asked, but for the last step",
          "[train][logging]") {
  Screen screen = Screen::pipe();
  Console console(screen.fd(), true, 100);
  ConsoleSink sink(console, {3, 1, std::chrono::hours(1)});
  StepRecord record;
  std::array<bool, 3> drawn;
  for (int64_t s = 0; s < 3; ++s) {
    fill(record, s);
    sink.write(record);
    drawn[static_cast<size_t>(s)] = !screen.text().empty();
  }
  CHECK(drawn == std::array<bool, 3>{true, false, true});
}

TEST_CASE("a closed stderr silences the console and nothing else", "[train][logging]") {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  ::close(ends[0]);
  const auto old = ::signal(SIGPIPE, SIG_IGN);
  {
    Console console(ends[1], true);
    CHECK_NOTHROW(console.line("into the void"));
    CHECK_NOTHROW(console.progress("step"));
  }
  ::close(ends[1]);
  Console closed(ends[1], false);
  CHECK_NOTHROW(closed.line("no such descriptor"));
  ::signal(SIGPIPE, old);
}

TEST_CASE("NO_COLOR and TERM=dumb turn refreshing off", "[train][logging]") {
  const char* term = std::getenv("TERM");
  const std::string old_term = term == nullptr ? "" : term;
  const char* no_color = std::getenv("NO_COLOR");
  const std::string old_no_color = no_color == nullptr ? "" : no_color;
  const auto refreshes = [](const char* term_value, const char* no_color_value) {
    ::setenv("TERM", term_value, 1);
    ::setenv("NO_COLOR", no_color_value, 1);
    return Console::may_refresh(true);
  };
  CHECK(refreshes("xterm", ""));
  CHECK_FALSE(refreshes("dumb", ""));
  CHECK_FALSE(refreshes("xterm", "1"));
  CHECK_FALSE(refreshes("", ""));
  ::setenv("TERM", "xterm", 1);
  ::setenv("NO_COLOR", "", 1);
  CHECK_FALSE(Console::may_refresh(false));
  ::setenv("TERM", old_term.c_str(), 1);
  ::setenv("NO_COLOR", old_no_color.c_str(), 1);
}

TEST_CASE("without a known width a line is cut before column 80", "[train][logging]") {
  Screen screen = Screen::pipe();
  {
    Console console(screen.fd(), true);
    console.progress(std::string(200, 'x'));
  }
  CHECK(screen.text() == "\r\033[K" + std::string(79, 'x') + "\n");
}

}  // namespace ballast
