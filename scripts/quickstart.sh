#!/bin/sh
# From a bare Debian to a trained model: installs what is missing, builds, trains configs/quickstart.yaml, and
# shows the loss, its distance to the corpus's known entropy, and text that the model writes. Called again it
# resumes where it was stopped; a finished run is only shown.
# BALLAST=path/to/ballast uses that binary instead of building one.
set -eu
cd "$(dirname "$0")/.."

if [ -z "${BALLAST-}" ]; then
  ./scripts/build.sh release ballast
  BALLAST=build/ballast
fi
run=runs/quickstart

status=0
"$BALLAST" train configs/quickstart.yaml --resume auto || status=$?
if [ "$status" = 75 ]; then
  echo "Stopped, with a checkpoint: ./scripts/quickstart.sh continues." >&2
fi
[ "$status" = 0 ] || exit "$status"

# Ten raw values of the log, evenly spaced, and the last one. regret = CE - entropy.
echo
awk '
  function value(key,   at) {
    at = index($0, "\"" key "\":")
    if (at == 0) return ""
    at = substr($0, at + length(key) + 3)
    sub(/^ */, "", at)
    sub(/[,}].*/, "", at)
    return at
  }
  value("train/regret") != "" {
    n += 1
    step[n] = value("step")
    ce[n] = value("train/ce")
    regret[n] = value("train/regret")
  }
  value("val/loss") != "" && value("val/loss") != "null" { val = value("val/loss") }
  END {
    if (n == 0) { print FILENAME ": no step with train/regret" > "/dev/stderr"; exit 1 }
    floor = ce[1] - regret[1]
    printf "The corpus has an entropy of %.3f nats a byte: no model can do better on fresh text.\n\n", floor
    printf "%8s %12s %15s\n", "step", "loss (CE)", "above entropy"
    for (k = 0; k <= 9; ++k) {
      i = 1 + int(k * (n - 1) / 9)
      if (i != shown) printf "%8d %12.3f %15.3f\n", step[i], ce[i], regret[i]
      shown = i
    }
    if (val != "") printf "\nOn text it was not trained on: %.3f, which is %.3f above.\n", val, val - floor
  }' "$run/metrics.jsonl"

printf '\nWhat it writes:\n\n'
"$BALLAST" generate "$run" --tokens 300 --seed 1
printf '\n\nNext: change configs/quickstart.yaml, or see README.md.\n'
