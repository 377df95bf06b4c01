#include "train/logging/record.h"

namespace ballast {

// Not in the header: inlined, g++ 12 takes the assignment for one to itself (-Wrestrict, GCC PR
// 105651).
Record::Field& Record::next(std::string_view key) {
  if (n_ == fields_.size()) fields_.emplace_back();
  fields_[n_].key.assign(key);
  return fields_[n_++];
}

}  // namespace ballast
