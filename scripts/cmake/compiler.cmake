# One interface target carries everything our own targets are compiled with.
add_library(ballast_compiler INTERFACE)
target_compile_features(ballast_compiler INTERFACE cxx_std_20)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

target_compile_options(ballast_compiler INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wswitch-enum -Wnon-virtual-dtor
  -Wold-style-cast -Wdouble-promotion
  $<$<BOOL:${BALLAST_WERROR}>:-Werror>)

# Never -ffast-math: on g++ 12 it makes isnan(NaN) false. These two keep NaN checks intact.
# ISO mode would switch contraction off, and with it every fused multiply-add of our kernels.
target_compile_options(ballast_compiler INTERFACE
  -march=${BALLAST_ARCH} -fno-math-errno -fno-trapping-math -ffp-contract=fast)
set(CMAKE_CXX_FLAGS_RELEASE "-O3 -DNDEBUG")

if(BALLAST_SANITIZE)
  # g++ 12 finds uninitialised values in instrumented code, std::regex for one, that are not.
  target_compile_options(ballast_compiler INTERFACE
    -fsanitize=${BALLAST_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer -Wno-maybe-uninitialized)
  target_link_options(ballast_compiler INTERFACE -fsanitize=${BALLAST_SANITIZE})
endif()
