// One row for every kind of a variant: its enumerator, its name in YAML, the paper it comes from.
// The tables feed the YAML parser, --help, error texts, the key reference and parametrised tests.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "core/error.h"

namespace ballast {

template <class Kind>
struct VariantRow {
  Kind kind;
  std::string_view name;   ///< as written in YAML
  std::string_view paper;  ///< where it is defined
};

/// Specialised beside each enum: the rows of the kinds that this version serves.
template <class Kind>
std::span<const VariantRow<Kind>> variant_rows();

/// Names that are part of the configuration's language but are not served yet; usually none.
template <class Kind>
std::span<const std::string_view> planned_variants() {
  return {};
}

template <class Kind>
std::string_view name_of(Kind kind) {
  for (const auto& row : variant_rows<Kind>()) {
    if (row.kind == kind) return row.name;
  }
  throw InternalError("internal error: a variant has no table row");
}

/// Pointer to the row of that name, or null.
template <class Kind>
const VariantRow<Kind>* find_variant(std::string_view name) {
  for (const auto& row : variant_rows<Kind>()) {
    if (row.name == name) return &row;
  }
  return nullptr;
}

}  // namespace ballast
