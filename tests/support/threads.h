// Thread counts for the length of a scope.
#pragma once

#include "core/parallel.h"

namespace ballast {

class WithThreads {
 public:
  explicit WithThreads(int n) : before_(n_threads()) { set_n_threads(n); }
  ~WithThreads() { set_n_threads(before_); }
  WithThreads(const WithThreads&) = delete;
  WithThreads& operator=(const WithThreads&) = delete;

 private:
  int before_;
};

}  // namespace ballast
