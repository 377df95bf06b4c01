#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/support/catch.h"
#include "train/config/fields.h"
#include "train/config/run_config.h"

namespace ballast {

TEST_CASE("configs/README.md is what `ballast config docs` writes", "[train][config]") {
  std::ifstream file(std::filesystem::path(BALLAST_SOURCE_DIR) / "configs/README.md");
  std::ostringstream text;
  text << file.rdbuf();
  // When this fails: build/train/ballast config docs > configs/README.md
  CHECK(text.str() == config_reference_markdown());
}

TEST_CASE("every key is documented and distinct", "[train][config]") {
  RunConfig defaults;
  const std::vector<Field> fields = run_config_fields(defaults);
  const std::string reference = config_reference_markdown();
  std::map<std::string, int> seen;
  for (const Field* field : leaf_fields(fields)) {
    CAPTURE(field->path);
    CHECK(++seen[field->path] == 1);
    CHECK(field->help.size() > 3);
    CHECK(reference.find("| `" + field->path + "` |") != std::string::npos);
  }
  CHECK(seen.size() > 100);
}

TEST_CASE("the JSON Schema is JSON and describes every key with its default", "[train][config]") {
  const YamlNode schema = parse_yaml(json_schema(), "schema");  // JSON is YAML
  CHECK(schema.find("$schema")->value.text == "https://json-schema.org/draft/2020-12/schema");
  CHECK(flow_text(schema.find("then")->value, 1000) ==
        "{required: ['model', 'train'], properties: {model: {required: ['d_model', 'n_layers', "
        "'n_heads']}, train: {required: ['steps']}}}");
  const auto check_level = [](const auto& self, const YamlNode& level,
                              const std::vector<Field>& fields) -> void {
    const YamlNode& properties = level.find("properties")->value;
    CHECK(level.find("additionalProperties")->value.text == "false");
    for (const Field& field : fields) {
      CAPTURE(field.path);
      const YamlEntry* entry = properties.find(field.key);
      REQUIRE(entry != nullptr);
      CHECK(entry->value.find("description")->value.text == field.help);
      if (field.type.kind == ValueType::Kind::section) {
        self(self, entry->value, field.fields);
      } else {
        CHECK((entry->value.find("default") == nullptr) == field.required);
      }
    }
  };
  RunConfig defaults;
  check_level(check_level, schema, run_config_fields(defaults));
  const YamlNode& lr = schema.find("properties")
                           ->value.find("optim")
                           ->value.find("properties")
                           ->value.find("lr")
                           ->value;
  CHECK(flow_text(lr, 200) ==
        "{description: 'peak learning rate', type: 'number', exclusiveMinimum: 0.0, "
        "default: 3.0e-4}");
}

}  // namespace ballast
