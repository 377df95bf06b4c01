// The machine and the program a run is made with: env.json.
#pragma once

#include <cstdint>
#include <string>

namespace ballast {

/// Best vector extension of this CPU, which oneDNN uses: "avx512_bf16", "avx512", "avx2", "sse2".
std::string instruction_set();
/// The one our kernels were compiled for.
std::string kernel_instruction_set();
/// "model name" of /proc/cpuinfo, or "unknown".
std::string cpu_model();
/// "0.1.0": the version of this program.
std::string program_version();
/// "g++ 12.2.0".
std::string compiler();

struct Environment {
  std::string version;  ///< of this program
  std::string onednn;   ///< version of the library that was loaded
  int64_t threads = 0;
};

/// The text of env.json. Holds no user name, path or environment variable.
std::string environment_text(const Environment& environment);

}  // namespace ballast
