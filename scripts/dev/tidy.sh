#!/bin/sh
# clang-tidy on the sources that differ from a commit, or on all of them.
#   scripts/dev/tidy.sh [BASE]     default: main; `scripts/dev/tidy.sh all` for every source
set -eu
cd "$(dirname "$0")/../.."

[ -x "$(command -v clang-tidy)" ] && [ -n "$(find /usr/lib/llvm-* -name omp.h 2>/dev/null)" ] ||
  { echo "tidy.sh: install clang-tidy and libomp-dev" >&2; exit 1; }
[ -f build/compile_commands.json ] || ./scripts/build.sh release

if [ "${1-}" = all ]; then
  git ls-files -- '*.cpp'
else
  git diff --name-only --diff-filter=d "${1:-main}" -- '*.cpp'
fi | grep -E '^(core|autograd|layers|optim|train)/' |
  xargs -r -n1 -P"$(nproc)" clang-tidy -p build --quiet
