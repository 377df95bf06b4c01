#include "train/files/hash.h"

#include <xxhash.h>

#include <array>
#include <new>

namespace ballast {

namespace {

XXH3_state_t* native(void* state) {
  return static_cast<XXH3_state_t*>(state);
}

}  // namespace

std::string Hash128::hex() const {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (const uint64_t half : {high, low}) {
    for (int shift = 60; shift >= 0; shift -= 4) text += kDigits[(half >> shift) & 15U];
  }
  return text;
}

Hasher::Hasher() : state_(reinterpret_cast<State*>(XXH3_createState())) {
  if (state_ == nullptr) throw std::bad_alloc();
  XXH3_128bits_reset(native(state_.get()));
}

Hasher::~Hasher() = default;

void Hasher::Deleter::operator()(State* state) const {
  XXH3_freeState(native(state));
}

void Hasher::update(std::span<const std::byte> bytes) {
  XXH3_128bits_update(native(state_.get()), bytes.data(), bytes.size());
}

Hash128 Hasher::value() const {
  const XXH128_hash_t h = XXH3_128bits_digest(native(state_.get()));
  return {h.high64, h.low64};
}

Hash128 hash_of(std::span<const std::byte> bytes) {
  const XXH128_hash_t h = XXH3_128bits(bytes.data(), bytes.size());
  return {h.high64, h.low64};
}

Hash128 hash_of(std::string_view text) {
  return hash_of(std::as_bytes(std::span(text)));
}

}  // namespace ballast
