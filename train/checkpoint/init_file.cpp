#include "train/checkpoint/init_file.h"

#include <utility>
#include <vector>

#include "core/error.h"
#include "train/checkpoint/safetensors.h"

namespace ballast {

void load_init_file(const std::filesystem::path& path, ParameterStore& store) {
  const SafetensorsFile file(path);
  std::vector<std::pair<const StoredTensor*, const Parameter*>> pairs;
  for (const Parameter& p : store.parameters()) {
    const StoredTensor* stored = file.find(p.name);
    if (stored == nullptr) stored = file.find("param." + p.name);
    if (stored == nullptr) {
      throw DataError(concat(path.string(), ": lacks parameter ", p.name, " ", p.shape));
    }
    if (!same_shape(stored->shape, p.shape)) {
      throw DataError(concat(path.string(), ": parameter ", p.name, " is ",
                             shape_text(stored->shape), " in the file but ", p.shape,
                             " in the model"));
    }
    if (!is_floating(stored->type)) {
      throw DataError(concat(path.string(), ": parameter ", p.name, " is ", name_of(stored->type),
                             "; expected a floating type"));
    }
    pairs.emplace_back(stored, &p);
  }
  for (const auto& [stored, p] : pairs) file.read(*stored, p->value);
}

}  // namespace ballast
