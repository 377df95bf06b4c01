#include "core/error.h"

#include "tests/support/catch.h"

namespace ballast {

TEST_CASE("check throws its joined parts only when the claim fails", "[core][error]") {
  CHECK_NOTHROW(check(true, "unused"));
  CHECK_THROWS_WITH(check(false, "[op] got ", 3, "; expected ", 4), "[op] got 3; expected 4");
}

}  // namespace ballast
