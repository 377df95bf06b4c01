#include "train/app.h"

int main(int argc, char** argv) {
  return ballast::run_app(argc, argv);
}
