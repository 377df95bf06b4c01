#include "autograd/observer.h"

namespace ballast {

void TapeObserver::on_value(std::string_view, std::string_view, const Tensor&) {}
void TapeObserver::on_gradient(std::string_view, std::string_view, const Tensor&) {}

bool matches(std::string_view pattern, std::string_view name) {
  // The last '*' seen can always take one character more: that is the only choice to come back to.
  size_t p = 0, n = 0, star = std::string_view::npos, resume = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = n;
    } else if (p < pattern.size() && pattern[p] == name[n]) {
      ++p;
      ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++resume;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

}  // namespace ballast
