#!/bin/sh
# Installs the Debian packages that building and testing need, and nothing when they are there already.
#   scripts/setup.sh [PACKAGE ...]     the same, and these too
set -eu

packages="g++ cmake ninja-build
  libdnnl-dev ocl-icd-opencl-dev
  libyaml-cpp-dev libcli11-dev nlohmann-json3-dev libxxhash-dev
  catch2"   # ocl-icd-opencl-dev: Debian 12's libdnnl-dev cannot be found by CMake without it

die() { echo "setup.sh: $*" >&2; exit 1; }

# shellcheck disable=SC2086   # the list is split on purpose
set -- $packages "$@"
command -v apt-get >/dev/null && command -v dpkg-query >/dev/null ||
  die "no apt-get here; install the like of '$*', then: cmake --workflow --preset release"

missing=
for package; do
  status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) || true
  [ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

as_root=
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || die "needs root or sudo for: apt-get install$missing"
  as_root=sudo
fi
apt_get() {
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 "$@" >/dev/null
}
echo "Installing${as_root:+ (with sudo)}:$missing" >&2
apt_get update || die "apt-get update failed; is there a network?"
# shellcheck disable=SC2086
apt_get install -y --no-install-recommends $missing || die "apt-get could not install:$missing"
