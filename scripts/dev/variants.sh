#!/bin/sh
# Writes README.md's table of variants: the rows of configs/README.md (`ballast config docs`) by which a
# model or an optimiser is one of several kinds. With --check changes nothing and fails when the table is not current.
set -eu
cd "$(dirname "$0")/../.."
new=$(mktemp)
trap 'rm -f "$new"' EXIT

awk '
  FNR == NR {   # configs/README.md: | `key` | `default` | a \| b | effect |
    line = $0
    gsub(/\\\|/, "\001", line)
    split(line, cell, / *\| */)
    if (cell[2] !~ /^`(model|optim)\./ || cell[4] !~ /\001/ || cell[4] ~ /a list of|not in this version/) next
    sub(/, or null$/, "", cell[4])
    number = sub(/ *\001 *a number.*$/, "", cell[4]) ? " or a number" : ""
    gsub(/ *\001 */, "` `", cell[4])
    rows = rows "| " cell[2] " | `" cell[4] "`" number " | " cell[5] " |\n"
    next
  }
  /^<!-- variants: end/ { inside = 0 }
  !inside { print }
  /^<!-- variants: begin/ {
    inside = 1
    gsub(/\001/, "\\|", rows)
    printf "| key | kinds | |\n|---|---|---|\n%s", rows
    found = 1
  }
  END { if (!found || rows == "") { print "variants.sh: no table of variants" > "/dev/stderr"; exit 1 } }
' configs/README.md README.md >"$new"

case ${1-} in
  --check) diff README.md "$new" || { echo "README.md is not current: scripts/dev/variants.sh" >&2; exit 1; } ;;
  '') cat "$new" >README.md ;;
  *) echo "usage: scripts/dev/variants.sh [--check]" >&2; exit 2 ;;
esac
