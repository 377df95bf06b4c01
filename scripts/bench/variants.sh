#!/bin/sh
# Step time of every single variant of scripts/bench/variants.txt as a ratio to the plain block of the same model,
# in Markdown. Steps of the two alternate, so other load falls on both; each ratio is the median.
#   scripts/bench/variants.sh [--pairs N] [--models "s m"] [--list FILE] [key=value ...]
# configs/bench/ says what s (T 256) and m (T 512) are; key=value changes both, such as train.batch_size=2: short
# steps compare better on a machine that others use too.
set -eu
cd "$(dirname "$0")/../.."

pairs=8 models='s m' list=scripts/bench/variants.txt
while [ $# -gt 0 ]; do
  case $1 in
    --pairs) pairs=$2; shift 2 ;;
    --models) models=$2; shift 2 ;;
    --list) list=$2; shift 2 ;;
    *=*) break ;;
    *) sed -n '2,6p' "$0" >&2; exit 2 ;;
  esac
done

./scripts/setup.sh
./scripts/build.sh release ballast variant_bench
build/ballast --version | sed 's/^/# /'
for model in $models; do
  printf '\n%s, %s threads, %s\n\n' "$model" "$(nproc)" "$(git rev-parse --short HEAD)"
  build/tests/variant_bench "configs/bench/$model.yaml" "$pairs" "$list" "$@"
done
