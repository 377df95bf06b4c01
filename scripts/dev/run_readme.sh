#!/bin/sh
# Runs the ```sh blocks of Markdown files, in order, in a copy of the sources with a built binary; blocks marked
# otherwise (text, console) are not run. Fails at the first block that fails, and when there is none.
#   scripts/dev/run_readme.sh path/to/ballast FILE...     files relative to the sources
set -eu
BALLAST=$(realpath "$1")   # quickstart.sh uses it instead of building
export BALLAST
shift
sources=$(cd "$(dirname "$0")/../.." && pwd)

copy=$(mktemp -d)
blocks=$(mktemp -d)
trap 'rm -rf "$copy" "$blocks"' EXIT
tar -C "$sources" -cf - --exclude=./.git --exclude=./build --exclude='./build-*' --exclude=./runs --exclude=./studies . |
  tar -C "$copy" -xf -
mkdir "$copy/build"
ln -s "$BALLAST" "$copy/build/ballast"

cd "$copy"
found=0
for file; do
  rm -f "$blocks"/*
  # One file a block, named after the line that its commands start at.
  awk -v dir="$blocks" '
    /^```sh *$/ { name = sprintf("%s/%06d", dir, NR + 1); next }
    /^```/ { name = "" }
    name != "" { print > name }' "$file"
  for block in "$blocks"/*; do
    [ -f "$block" ] || continue
    found=$((found + 1))
    line=$(basename "$block" | sed 's/^0*//')
    if ! sh -eux "$block" >"$copy/output" 2>&1 </dev/null; then
      echo "$file:$line: this block fails:" >&2
      cat "$copy/output" >&2
      exit 1
    fi
    echo "$file:$line: runs"
  done
done
[ "$found" -gt 0 ] || { echo "run_readme.sh: no \`\`\`sh block in $*" >&2; exit 1; }
