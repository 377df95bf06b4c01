#include "train/loop/signals.h"

#include <unistd.h>

#include "core/error.h"

namespace ballast {

namespace {

// A signal handler can reach nothing but a global.
volatile std::sig_atomic_t g_received = 0;
bool g_installed = false;

extern "C" void note_signal(int signal) {
  if (g_received != 0) ::_exit(128 + signal);
  g_received = signal;
}

}  // namespace

ScopedSignalHandlers::ScopedSignalHandlers() {
  check_internal(!g_installed, "signal handlers were installed twice");
  g_installed = true;
  g_received = 0;
  struct sigaction action {};
  action.sa_handler = note_signal;
  ::sigemptyset(&action.sa_mask);
  // One at a time, so that of two that arrive together one is the first.
  ::sigaddset(&action.sa_mask, SIGINT);
  ::sigaddset(&action.sa_mask, SIGTERM);
  action.sa_flags = SA_RESTART;
  ::sigaction(SIGINT, &action, &old_interrupt_);
  ::sigaction(SIGTERM, &action, &old_terminate_);
}

ScopedSignalHandlers::~ScopedSignalHandlers() {
  ::sigaction(SIGINT, &old_interrupt_, nullptr);
  ::sigaction(SIGTERM, &old_terminate_, nullptr);
  g_installed = false;
}

int ScopedSignalHandlers::received() {
  return g_received;
}

void ignore_write_signals() {
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGXFSZ, SIG_IGN);
}

}  // namespace ballast
