// Initial values from a safetensors file (`--init`).
#pragma once

#include <filesystem>

#include "core/parameter.h"

namespace ballast {

/// Sets every parameter from the tensor `<name>` or `param.<name>` of the file; other tensors in it
/// are ignored. Floating types convert. Throws DataError if a parameter is missing or has another
/// shape, with the store as it was.
void load_init_file(const std::filesystem::path& path, ParameterStore& store);

}  // namespace ballast
