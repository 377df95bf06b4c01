#!/bin/sh
# Training speed of the reference models in configs/bench, as a share of the machine's FMA peak and, if a peer
# is given, beside it in turn: its eager and its compiled step, from one run on one machine.
#   scripts/bench/compare_peers.sh [--peer TORCH_PEER.py] [--threads N] [--steps N] [--models "s m"]
# The peer is a program of its own that takes --preset MODEL [--compile] --threads N --steps N and prints
# "tok/s X" and "rss X GB". A step is forward, loss, backward, clip and update with all per-step monitors on;
# the first 3 steps are left out, the rest give the median.
set -eu
cd "$(dirname "$0")/../.."

peer='' threads=$(nproc) steps=20 models='s m'
while [ $# -gt 0 ]; do
  case $1 in
    --peer) peer=$2; shift 2 ;;
    --threads) threads=$2; shift 2 ;;
    --steps) steps=$2; shift 2 ;;
    --models) models=$2; shift 2 ;;
    *) sed -n '2,7p' "$0" >&2; exit 2 ;;
  esac
done

./scripts/setup.sh time
./scripts/build.sh release ballast fma_peak
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The number after a word: "tok/s 1234" gives 1234.
after() { sed -n "s|.*$1 \([0-9.]*\).*|\1|p"; }

ours() {  # model -> tokens/s, and peak memory in GB
  /usr/bin/env time -f 'maxrss %M' -o "$work/time" build/ballast train "configs/bench/$1.yaml" \
    run.dir="$work" run.name="$1" run.threads="$threads" train.steps=$((steps + 3)) train.eval_batches=1 \
    log.console_every=0 2>"$work/log" || { cat "$work/log" >&2; exit 1; }
  sed -n 's|.*"perf/tokens_per_s":\([0-9.e+]*\).*|\1|p' "$work/$1/metrics.jsonl" | tail -n +4 | sort -g |
    awk '{ v[NR] = $1 } END { printf "%.0f", (v[int((NR + 1) / 2)] + v[int((NR + 2) / 2)]) / 2 }'
  rm -rf "${work:?}/$1"
}
theirs() {  # model, flags
  python3 "$peer" --preset "$1" --threads "$threads" --steps "$steps" $2 >"$work/peer" 2>"$work/log" ||
    { cat "$work/log" >&2; exit 1; }
  after tok/s <"$work/peer"
}

build/ballast --version | tail -n 1
echo "$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1), $threads threads, $(date +%F), $(git rev-parse --short HEAD 2>/dev/null || echo no commit)"
printf '%-6s %9s %9s %8s %7s %9s %9s %7s %9s\n' model peak tok/s GFLOP/s MFU eager compiled ratio memory
for model in $models; do
  peak=$(build/tests/fma_peak "$threads")
  flops=$(build/ballast plan --flops "configs/bench/$model.yaml")
  speed=$(ours "$model")
  memory=$(awk '/maxrss/ { printf "%.2f", $2 / 1e6 }' "$work/time")
  eager='' compiled='' peer_memory=''
  if [ -n "$peer" ]; then
    eager=$(theirs "$model" '')
    peer_memory=$(after rss <"$work/peer")
    compiled=$(theirs "$model" --compile)
    peer_memory=$(printf '%s\n%s\n' "$peer_memory" "$(after rss <"$work/peer")" | sort -g | head -n 1)
  fi
  awk -v m="$model" -v peak="$peak" -v f="$flops" -v s="$speed" -v e="${eager:-0}" -v c="${compiled:-0}" \
    -v mem="$memory" -v pm="${peer_memory:-0}" 'BEGIN {
      best = (e > c) ? e : c
      ratio = (best > 0) ? sprintf("%.2f", s / best) : "-"
      beside = (pm > 0) ? " of " pm " GB" : ""
      if (e == 0) e = "-"
      if (c == 0) c = "-"
      printf("%-6s %9d %9d %8.0f %6.1f%% %9s %9s %7s %6s GB%s\n", m, peak, s, s * f / 1e9, 100 * s * f / 1e9 / peak,
             e, c, ratio, mem, beside) }'
done
