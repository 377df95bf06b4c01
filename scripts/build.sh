#!/bin/sh
# Installs what is missing, configures and builds.
#   scripts/build.sh [PRESET [TARGET ...]]     default: release, everything
set -eu
cd "$(dirname "$0")/.."

preset=${1:-release}
[ $# -eq 0 ] || shift
./scripts/setup.sh

# A compiler takes up to 1.5 GB for our largest files: more jobs than memory holds would swap, or be killed.
jobs=$(nproc)
available=$(awk '/^MemAvailable:/ {print int($2 / 1500000)}' /proc/meminfo)
if [ "$available" -lt "$jobs" ]; then jobs=$((available > 0 ? available : 1)); fi

cmake --preset "$preset" >/dev/null
exec cmake --build --preset "$preset" --parallel "$jobs" ${1:+--target "$@"}
