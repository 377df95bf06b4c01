#!/bin/sh
# Formats every C++ file as .clang-format says; with --check changes nothing and fails where one differs.
set -eu
cd "$(dirname "$0")/../.."

# Versions of clang-format differ in what they print; 14 is Debian 12's.
clang_format=$(command -v clang-format-14 || command -v clang-format) ||
  { echo "format.sh: install clang-format (version 14)" >&2; exit 1; }
"$clang_format" --version | grep -q 'version 14\.' ||
  { echo "format.sh: needs clang-format 14, but this is $("$clang_format" --version)" >&2; exit 1; }

case ${1-} in
  --check) set -- --dry-run --Werror ;;
  '') set -- -i ;;
  *) echo "usage: scripts/dev/format.sh [--check]" >&2; exit 2 ;;
esac
find core autograd layers optim train tests \( -name '*.h' -o -name '*.cpp' \) \
  -exec "$clang_format" --style=file "$@" {} +
