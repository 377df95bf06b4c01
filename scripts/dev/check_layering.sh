#!/bin/sh
# Fails when a file includes what its folder must not, when something lies where nothing should, or when
# a file refers to what a user does not have. Prints file:line: what is wrong, for each.
#   scripts/dev/check_layering.sh [ROOT]
set -u
cd "${1:-$(dirname "$0")/../..}" || exit 2

files() {
  if [ -e .git ]; then
    git ls-files
  else   # a plain copy of the sources
    find . -type d \( -path ./build -o -path './build-*' -o -path ./runs -o -path ./studies \) -prune -o \
      -type f -print | sed 's|^\./||'
  fi
}
list=$(mktemp)
faults=$(mktemp)
trap 'rm -f "$list" "$faults"' EXIT
files >"$list"
[ -s "$list" ] || { echo "check_layering.sh: no files in $PWD" >&2; exit 2; }

# grep over the listed files whose name matches $1: lines that match $2.
lines_in() { grep -E "$1" "$list" | tr '\n' '\0' | xargs -0 -r grep -nHIE -e "$2"; }
report() { sed "s|\$|   <- $1|" >>"$faults"; }

sources='^(core|autograd|layers|optim|train|tests)/.*\.(h|cpp)$'
below_train='^(core|autograd|layers|optim)/.*\.(h|cpp)$'

# core <- autograd <- layers; core <- optim; train sees all of them, tests see everything.
lines_in "$sources" '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' | awk -F: '
  BEGIN {
    may["core"] = "core"
    may["autograd"] = "core autograd"
    may["layers"] = "core autograd layers"
    may["optim"] = "core optim"
    may["train"] = "core autograd layers optim train"
    may["tests"] = may["train"] " tests"
  }
  {
    from = $1; sub("/.*", "", from)
    to = $0; sub(/^[^"]*"/, "", to); sub(/".*/, "", to)
    has_folder = sub("/.*", "", to)
    if (!has_folder) print $0 "   <- an include names its folder"
    else if (index(" " may[from] " ", " " to " ") == 0) print $0 "   <- " from "/ must not include " to "/"
  }' >>"$faults"

include='^[[:space:]]*#[[:space:]]*include[[:space:]]*[<"]'
lines_in "$below_train" "$include(yaml-cpp|CLI|nlohmann)/" | report "only train/ reads YAML, JSON and command lines"
lines_in "$below_train" "$include(fstream|filesystem|fcntl\.h)>|\bfopen *\(|\bofstream\b" |
  report "only train/ opens files"
lines_in "$sources" "$include(oneapi/)?dnnl" | grep -v '^core/matmul\.cpp:' | report "only core/matmul.cpp uses oneDNN"
lines_in "$sources" "${include}omp\.h>|#[[:space:]]*pragma omp (parallel|for|task|sections|single|critical)" |
  grep -Ev '^(core/parallel\.(h|cpp)|tests/[^:]*):' | report "core/parallel.h is the one wrapper over OpenMP"
lines_in '(^|/)CMakeLists\.txt$|\.cmake$|^CMakePresets\.json$' '^[^#]*-(ffast-math|Ofast)' |
  report "makes isnan(NaN) false"

# Bracketed letters, so that this file does not find itself.
lines_in . '[.][.]/share[d]|/wor[k]/' | report "no user has this folder"

grep -Ev '^(core|autograd|layers|optim|train|configs|tests|scripts|\.[^/]+)/' "$list" |
  grep -Evx 'CMakeLists\.txt|CMakePresets\.json|README\.md|CONTRIBUTING\.md|LICENSE|\.clang-format|\.clang-tidy|\.gitignore' |
  report "nothing else lies at the top"

grep -E '^(core|autograd|layers|optim|train)/' "$list" | grep -Ev '\.(h|cpp)$|/CMakeLists\.txt$|/README\.md$' |
  report "no source"

[ -s "$faults" ] || exit 0
cat "$faults"
exit 1
