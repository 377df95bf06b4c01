#!/bin/sh
# setup.sh on made-up systems: a folder of fake commands stands for each.
set -eu
setup=$(cd "$(dirname "$0")/../../scripts" && pwd)/setup.sh
system=$(mktemp -d)
trap 'rm -rf "$system"' EXIT
failures=0

# fake NAME BODY: a command of the system; every call of apt-get and sudo is recorded.
fake() { printf '#!/bin/sh\n%s\n' "$2" >"$system/bin/$1" && chmod +x "$system/bin/$1"; }
debian() {   # USER_ID INSTALLED(extended regular expression)
  rm -rf "$system/bin" "$system/calls"
  mkdir "$system/bin"
  : >"$system/calls"
  for tool in sh env grep cat; do ln -s "$(command -v $tool)" "$system/bin/$tool"; done
  fake id "echo $1"
  fake dpkg-query "for p; do :; done; echo \"\$p\" | grep -Eqx '$2' && printf installed"
  fake apt-get "echo \"apt-get \$*\" >>$system/calls"
}
run() { status=0; out=$(PATH="$system/bin" "$system/bin/sh" "$setup" "$@" 2>&1) || status=$?; }
expect() {   # CLAIM CONDITION...
  claim=$1
  shift
  "$@" || { echo "not so: $claim (status $status; said: $out; calls: $(cat "$system/calls"))"; failures=$((failures + 1)); }
}
said() { printf '%s' "$out" | grep -qF -- "$1"; }
called() { grep -qE -- "$1" "$system/calls"; }

debian 0 '.*'
run
expect "nothing is said, called or installed when all is there" [ "$status.$out.$(cat "$system/calls")" = 0.. ]

debian 0 'g\+\+|cmake|ninja-build|catch2|libyaml-cpp-dev|libcli11-dev|nlohmann-json3-dev|libxxhash-dev'
run
expect "root installs without sudo" [ "$status" = 0 ]
expect "it says exactly what is missing" [ "$out" = "Installing: libdnnl-dev ocl-icd-opencl-dev" ]
expect "the lists are updated first, once" [ "$(grep -c update "$system/calls")" = 1 ]
expect "only what is missing is installed, without recommendations" \
  called 'install -y --no-install-recommends libdnnl-dev ocl-icd-opencl-dev$'

debian 0 '.*[^x]'
run further-x
expect "packages on the command line are installed too" called 'no-install-recommends further-x$'

debian 1000 'nothing'
run
expect "without root and sudo it fails with one line" [ "$status" = 1 ]
expect "and names sudo" said "setup.sh: needs root or sudo for: apt-get install g++"
expect "and calls nothing" [ ! -s "$system/calls" ]

fake sudo "echo sudo >>$system/calls; exec \"\$@\""
run
expect "with sudo it goes on" [ "$status" = 0 ]
expect "through sudo" called '^sudo$'
expect "and says so" said "Installing (with sudo): g++"

debian 0 'nothing'
fake apt-get 'exit 100'
run
expect "a failing update is one line" [ "$status.$(printf '%s\n' "$out" | grep -c 'setup.sh: apt-get update failed')" = 1.1 ]

debian 0 '.*'
rm "$system/bin/apt-get"
run
expect "another system gets one line that lists the packages" said "setup.sh: no apt-get here; install the like of 'g++ cmake"
expect "and fails" [ "$status" = 1 ]

[ "$failures" = 0 ]
