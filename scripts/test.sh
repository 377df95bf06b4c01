#!/bin/sh
# Installs what is missing, builds, and runs the tests.
#   scripts/test.sh [--slow] [--preset release|ci|debug|asan] [-- CTEST_ARGUMENT ...]
# --slow runs the tests labelled slow too. Benchmarks (label bench) never run here.
set -eu
cd "$(dirname "$0")/.."

preset=release
skipped='^(slow|bench)$'
while [ $# -gt 0 ]; do
  case $1 in
    --slow) skipped='^bench$'; shift ;;
    --preset) preset=${2:?"--preset needs a name"}; shift 2 ;;
    --) shift; break ;;
    *) sed -n '2,4p' "$0" >&2; exit 2 ;;
  esac
done

./scripts/build.sh "$preset"
exec ctest --preset "$preset" --parallel "$(nproc)" --label-exclude "$skipped" "$@"
