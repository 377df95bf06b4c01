#!/bin/sh
# Installs what is missing, builds, and runs the tests.
#   scripts/test.sh [--slow] [--preset release|ci|debug|asan] [-- CTEST_ARGUMENT ...]
# --slow runs the tests labelled slow too. Benchmarks (label bench) never run here.
set -eu
cd "$(dirname "$0")/.."

preset=release
slow=
while [ $# -gt 0 ]; do
  case $1 in
    --slow) slow=yes; shift ;;
    --preset) preset=${2:?"--preset needs a name"}; shift 2 ;;
    --) shift; break ;;
    *) sed -n '2,4p' "$0" >&2; exit 2 ;;
  esac
done

./scripts/build.sh "$preset"
# The presets leave slow and bench out; a label named here takes their place.
exec ctest --preset "$preset" --parallel "$(nproc)" ${slow:+--label-exclude '^bench$'} "$@"
