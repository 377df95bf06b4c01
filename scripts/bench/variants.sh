#!/bin/sh
# Step time of every single variant of scripts/bench/variants.txt as a ratio to the plain block of the same model,
# in Markdown. Steps of the two alternate, so other load falls on both; each ratio is the median.
#   scripts/bench/variants.sh [--steps N] [--models "s m"] [--list FILE]
# m runs at T 512 with batch 8, s at T 256 with batch 16 (configs/bench/).
set -eu
cd "$(dirname "$0")/../.."

steps=10 models='s m' list=scripts/bench/variants.txt
while [ $# -gt 0 ]; do
  case $1 in
    --steps) steps=$2; shift 2 ;;
    --models) models=$2; shift 2 ;;
    --list) list=$2; shift 2 ;;
    *) sed -n '2,5p' "$0" >&2; exit 2 ;;
  esac
done

./scripts/setup.sh
./scripts/build.sh release ballast variant_bench
build/ballast --version | sed 's/^/# /'
for model in $models; do
  printf '\n%s, %s threads, %s\n\n' "$model" "$(nproc)" "$(git rev-parse --short HEAD)"
  build/tests/variant_bench "configs/bench/$model.yaml" "$steps" "$list"
done
