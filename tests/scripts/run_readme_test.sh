#!/bin/sh
# run_readme.sh on a made-up project.
set -eu
script=$(cd "$(dirname "$0")/../../scripts/dev" && pwd)/run_readme.sh
project=$(mktemp -d)
trap 'rm -rf "$project"' EXIT
failures=0

mkdir -p "$project/scripts/dev" "$project/build" "$project/runs"
cp "$script" "$project/scripts/dev/"
printf '#!/bin/sh\necho "ballast $*"\n' >"$project/build/ballast"
chmod +x "$project/build/ballast"

# readme TEXT: runs it as README.md; sets out and status.
readme() {
  printf '%s\n' "$1" >"$project/README.md"
  status=0
  out=$("$project/scripts/dev/run_readme.sh" "$project/build/ballast" README.md 2>&1) || status=$?
}
expect() {
  claim=$1
  shift
  "$@" || { echo "not so: $claim (status $status; said: $out)"; failures=$((failures + 1)); }
}
said() { printf '%s' "$out" | grep -qF -- "$1"; }

readme '# A
```sh
build/ballast train x >made
[ -n "$BALLAST" ]
[ ! -e runs ]
```
text
```sh
grep "ballast train x" made
```'
expect "blocks run in order, in one copy, with the binary" [ "$status" = 0 ]
expect "each is named by its line" said 'README.md:9: runs'
expect "the sources stay as they were" [ ! -e "$project/made" ]

readme '```console
$ false
```
```sh
true
```
```text
false
```'
expect "blocks of another kind are not run" [ "$status" = 0 ]

readme '```sh
true
```
and
```sh
echo before
build/nothing --here
true
```'
expect "a command that fails inside a block is a failure" [ "$status" != 0 ]
expect "reported by the line of its block" said 'README.md:6: this block fails'
expect "with its output" said 'before'

readme 'No block.'
expect "a README without a block is a failure" [ "$status" != 0 ]

[ "$failures" = 0 ]
