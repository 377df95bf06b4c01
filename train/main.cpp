#include <unistd.h>

#include <cstdlib>

#include "train/app.h"

namespace {

// libgomp's threads spin 300000 rounds (some 5 ms) at a barrier before they sleep; where another
// process holds a core they wait out each other's time slices, and a step was seen to take 5 times
// as long. On four idle cores 100000 rounds cost nothing on configs/bench/s.yaml, 10000 cost 5-15
// %. libgomp reads the variable when it is loaded, hence the second start.
void bound_spinning(char** argv) {
  if (std::getenv("GOMP_SPINCOUNT") != nullptr || std::getenv("OMP_WAIT_POLICY") != nullptr) return;
  ::setenv("GOMP_SPINCOUNT", "100000", 1);
  ::execv("/proc/self/exe", argv);  // where this fails, the run is only slower
}

}  // namespace

int main(int argc, char** argv) {
  bound_spinning(argv);
  return ballast::run_app(argc, argv);
}
