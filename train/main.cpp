#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>

#include "train/app.h"

namespace {

// Threads of other programs that want a core now: the running ones of /proc/loadavg ("0.2 0.1 0.1
// 3/214 5120" counts us too), the fewest of a few looks.
int others_running() {
  int fewest = 1000;
  for (int look = 0; look < 5; ++look) {
    std::ifstream file("/proc/loadavg");
    double average = 0.0;
    int running = 0;
    if (!(file >> average >> average >> average >> running)) return 0;
    fewest = std::min(fewest, running - 1);
    ::usleep(1000);
  }
  return fewest;
}

// libgomp's threads spin 300000 rounds (some 5 ms) at a barrier before they sleep. Where other
// programs hold cores the threads wait out each other's time slices: a step of the quickstart was
// seen to take 5 to 20 times as long, so on a busy machine they sleep soon. On four idle cores
// 100000 rounds cost configs/bench/s.yaml nothing, 10000 cost 5-15 %. libgomp reads the variable
// when it is loaded, hence the second start.
void bound_spinning(char** argv) {
  if (std::getenv("GOMP_SPINCOUNT") != nullptr || std::getenv("OMP_WAIT_POLICY") != nullptr) return;
  ::setenv("GOMP_SPINCOUNT", others_running() > 0 ? "1000" : "100000", 1);
  ::execv("/proc/self/exe", argv);  // where this fails, the run is only slower
}

}  // namespace

int main(int argc, char** argv) {
  bound_spinning(argv);
  return ballast::run_app(argc, argv);
}
