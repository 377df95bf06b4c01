#include <unistd.h>

#include <cstdlib>

#include "train/app.h"

namespace {

// libgomp's threads spin 5 ms at every barrier before they sleep. Where another process holds a
// core they wait for each other's time slices: a step was seen to take 5 times as long. 0.1 ms is
// enough for the barriers of a step. libgomp reads the variable when it is loaded, hence the second
// start.
void bound_spinning(char** argv) {
  if (std::getenv("GOMP_SPINCOUNT") != nullptr || std::getenv("OMP_WAIT_POLICY") != nullptr) return;
  ::setenv("GOMP_SPINCOUNT", "10000", 1);
  ::execv("/proc/self/exe", argv);  // where this fails, the run is only slower
}

}  // namespace

int main(int argc, char** argv) {
  bound_spinning(argv);
  return ballast::run_app(argc, argv);
}
