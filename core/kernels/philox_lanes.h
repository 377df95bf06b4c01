// Many Philox blocks at once: core/random.h's numbers, drawn in vectors.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace ballast {

/// words[w][n] = Philox::block(key, counter_hi, counter_lo of lane n)[w]; on entry words[0] and
/// words[1] hold the low and the high half of each lane's counter_lo.
/// The loop over lanes is the inner one: as an array of blocks it does not vectorise.
template <size_t N>
void philox_lanes(uint64_t key, uint64_t counter_hi,
                  std::array<std::array<uint32_t, N>, 4>& words) {
  auto& [w0, w1, w2, w3] = words;
  w2.fill(static_cast<uint32_t>(counter_hi));
  w3.fill(static_cast<uint32_t>(counter_hi >> 32));
  auto k0 = static_cast<uint32_t>(key);
  auto k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
#pragma omp simd
    for (size_t n = 0; n < N; ++n) {
      const uint64_t p0 = uint64_t{0xD2511F53u} * w0[n];
      const uint64_t p1 = uint64_t{0xCD9E8D57u} * w2[n];
      w0[n] = static_cast<uint32_t>(p1 >> 32) ^ w1[n] ^ k0;
      w1[n] = static_cast<uint32_t>(p1);
      w2[n] = static_cast<uint32_t>(p0 >> 32) ^ w3[n] ^ k1;
      w3[n] = static_cast<uint32_t>(p0);
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
}

}  // namespace ballast
