// Watching a tape from outside: layers contain no monitoring code.
#pragma once

#include <string_view>

#include "core/tensor.h"

namespace ballast {

/// Called for every value whose scoped name ("blocks.3.attn:causal_attention") matches the pattern
/// it subscribed with, right after the value or its gradient was computed. It must not change them.
class TapeObserver {
 public:
  virtual ~TapeObserver() = default;
  virtual void on_value(std::string_view scope, std::string_view op, const Tensor& value);
  virtual void on_gradient(std::string_view scope, std::string_view op, const Tensor& gradient);
};

/// True if `name` matches `pattern`, in which '*' stands for any run of characters.
bool matches(std::string_view pattern, std::string_view name);

}  // namespace ballast
