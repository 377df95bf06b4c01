#include "train/logging/environment.h"

#include <unistd.h>

#include <fstream>

#include "train/files/json.h"
#include "train/files/printable.h"

namespace ballast {

std::string instruction_set() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512bf16")) return "avx512_bf16";
  if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")) return "avx512";
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return "avx2";
  return "sse2";
#else
  return "generic";
#endif
}

std::string kernel_instruction_set() {
#if defined(__AVX512BF16__)
  return "avx512_bf16";
#elif defined(__AVX512BW__) && defined(__AVX512VL__)
  return "avx512";
#elif defined(__AVX2__) && defined(__FMA__)
  return "avx2";
#elif defined(__x86_64__)
  return "sse2";
#else
  return "generic";
#endif
}

std::string cpu_model() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with("model name")) continue;
    const size_t colon = line.find(": ");
    if (colon != std::string::npos) return printable(line.substr(colon + 2));
  }
  return "unknown";
}

std::string program_version() {
  return BALLAST_VERSION;
}

std::string compiler() {
#if defined(__clang__)
  return "clang++ " __clang_version__;
#else
  return "g++ " __VERSION__;
#endif
}

std::string environment_text(const Environment& environment) {
  nlohmann::ordered_json json;
  json["version"] = environment.version;
  json["compiler"] = compiler();
  json["cpu"] = cpu_model();
  json["cores"] = ::sysconf(_SC_NPROCESSORS_ONLN);
  json["isa"] = instruction_set();
  json["kernel_isa"] = kernel_instruction_set();
  json["threads"] = environment.threads;
  json["onednn"] = environment.onednn;
  return json.dump(2) + "\n";
}

}  // namespace ballast
