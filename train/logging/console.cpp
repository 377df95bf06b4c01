#include "train/logging/console.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "train/files/printable.h"

namespace ballast {

namespace {

constexpr size_t kUsualWidth = 80;

template <class... Args>
std::string formatted(const char* format, Args... args) {
  std::array<char, 64> text;
  std::snprintf(text.data(), text.size(), format, args...);
  return text.data();
}

}  // namespace

bool Console::may_refresh(bool is_terminal) {
  const char* no_color = std::getenv("NO_COLOR");
  const char* term = std::getenv("TERM");
  const bool plain = (no_color != nullptr && *no_color != '\0') || term == nullptr ||
                     *term == '\0' || std::strcmp(term, "dumb") == 0;
  return is_terminal && !plain;
}

Console Console::for_stderr() {
  return Console(STDERR_FILENO, may_refresh(::isatty(STDERR_FILENO) == 1));
}

void Console::write_all(std::string_view text) {
  while (!text.empty() && fd_ >= 0) {
    const ssize_t n = ::write(fd_, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    // A terminal that is not read (EAGAIN on a non-blocking one) loses this text only.
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
    if (n <= 0) fd_ = -1;
    if (n > 0) text.remove_prefix(static_cast<size_t>(n));
  }
}

size_t Console::width() const {
  // The last column stays free: some terminals wrap as soon as it is written.
  if (columns_ > 1) return columns_ - 1;
  winsize size{};
  const bool known = ::ioctl(fd_, TIOCGWINSZ, &size) == 0 && size.ws_col > 1;
  return (known ? size.ws_col : kUsualWidth) - 1;
}

void Console::progress(std::string_view text) {
  if (!refreshes_) return;
  progress_.assign(text.substr(0, width()));
  buffer_.assign("\r\033[K").append(progress_);
  write_all(buffer_);
}

void Console::line(std::string_view text) {
  buffer_.clear();
  if (!progress_.empty()) buffer_ += "\r\033[K";
  buffer_.append(printable(text)).append(1, '\n').append(progress_);
  write_all(buffer_);
}

void Console::warning(std::string_view text) {
  line(std::string("warning: ").append(text));
}

void Console::finish() {
  if (progress_.empty()) return;
  progress_.clear();
  write_all("\n");
}

std::string duration_text(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0.0 || seconds > 1e9) return "-";
  const auto s = static_cast<long long>(std::llround(seconds));
  if (s >= 86400) return formatted("%lldd %02lld:%02lld", s / 86400, s / 3600 % 24, s / 60 % 60);
  if (s >= 3600) return formatted("%lld:%02lld:%02lld", s / 3600, s / 60 % 60, s % 60);
  return formatted("%lld:%02lld", s / 60, s % 60);
}

std::string rate_text(double per_second) {
  if (per_second < 999.5) return formatted("%.0f", per_second);
  return per_second < 999.95e3 ? formatted("%.1fk", per_second / 1e3)
                               : formatted("%.2fM", per_second / 1e6);
}

std::string ConsoleSink::describe(const StepRecord& record) const {
  std::string text = concat("step ", record.step(), '/', options_.steps);
  if (const auto loss = record.number("train/loss")) text += formatted("  loss %.4f", *loss);
  if (const auto norm = record.number("optim/grad_norm"))
    text += formatted("  grad norm %.3g", *norm);
  if (const auto lr = record.number("optim/lr")) text += formatted("  lr %.1e", *lr);
  if (const auto rate = record.number("perf/tokens_per_s"))
    text += "  " + rate_text(*rate) + " tok/s";
  const int64_t done = record.step() - first_step_;
  const auto time = record.number("time_s");
  if (time && done > 0) {
    const double pace = (*time - first_time_) / static_cast<double>(done);
    const auto left = static_cast<double>(options_.steps - 1 - record.step());
    text += "  ETA " + duration_text(pace * left);
  }
  return text;
}

void ConsoleSink::write(const StepRecord& record) {
  if (!started_) {
    started_ = true;
    first_step_ = record.step();
    first_time_ = record.number("time_s").value_or(0.0);
  }
  const bool is_last = record.step() + 1 >= options_.steps;
  if (const auto val = record.number("val/loss")) {
    console_->line(describe(record) + formatted("  val loss %.4f", *val));
  } else if (!console_->refreshes()) {
    const int64_t every = options_.console_every;
    if (is_last || (every > 0 && record.step() % every == 0)) console_->line(describe(record));
  }
  if (!console_->refreshes()) return;
  const auto now = std::chrono::steady_clock::now();
  if (!is_last && drawn_ && now - *drawn_ < options_.refresh) return;
  drawn_ = now;
  console_->progress(describe(record));
}

}  // namespace ballast
