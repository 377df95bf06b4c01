// XXH3-128: finds damage to a file, not forgery.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace ballast {

struct Hash128 {
  uint64_t high = 0;
  uint64_t low = 0;
  bool operator==(const Hash128&) const = default;
  /// 32 hexadecimal digits, as `xxh128sum` prints them.
  std::string hex() const;
};

class Hasher {
 public:
  Hasher();
  Hasher(Hasher&&) noexcept = default;
  Hasher& operator=(Hasher&&) noexcept = default;
  ~Hasher();

  void update(std::span<const std::byte> bytes);
  Hash128 value() const;

 private:
  struct State;
  struct Deleter {
    void operator()(State* state) const;
  };
  std::unique_ptr<State, Deleter> state_;
};

Hash128 hash_of(std::span<const std::byte> bytes);
Hash128 hash_of(std::string_view text);

}  // namespace ballast
