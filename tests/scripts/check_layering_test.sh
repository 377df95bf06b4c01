#!/bin/sh
# check_layering.sh accepts a legal tree and refuses each fault, one at a time, with its reason.
set -eu
check=$(cd "$(dirname "$0")/../../scripts/dev" && pwd)/check_layering.sh
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
failures=0

put() { mkdir -p "$tree/$(dirname "$1")" && printf '%s\n' "$2" >"$tree/$1"; }
legal_tree() {
  rm -rf "${tree:?}"/* "$tree"/.[!.]*
  put README.md 'Trains small models.'
  put CMakeLists.txt '# Never -ffast-math.'
  put .ci/run 'true'
  put build/generated.h '#include "nowhere/at_all.h"'
  put core/shape.h '#include <vector>'
  put core/parallel.h '#include <omp.h>'
  put core/matmul.cpp '#include <oneapi/dnnl/dnnl.hpp>'
  put core/kernels/norm.h '#include "core/parallel.h"'
  put autograd/tape.h '#include "core/shape.h"'
  put layers/model.h '#include "autograd/tape.h"'
  put optim/adamw.h '#include "core/shape.h"'
  put train/main.cpp '#include <yaml-cpp/yaml.h>
#include <CLI/CLI.hpp>
#include <fstream>
#include "layers/model.h"
#include "optim/adamw.h"'
  put tests/layers/model_test.cpp '#include "layers/model.h"
#include "tests/support/catch.h"'
}
# refuses FILE TEXT REASON
refuses() {
  legal_tree
  put "$1" "$2"
  if out=$("$check" "$tree"); then
    echo "accepted $1: $2"
    failures=$((failures + 1))
  elif ! printf '%s' "$out" | grep -qF "$1" || ! printf '%s' "$out" | grep -qF -- "$3"; then
    echo "$1: $2: expected '$3', got: $out"
    failures=$((failures + 1))
  fi
}

legal_tree
"$check" "$tree" || { echo "refused a legal tree"; failures=1; }

refuses core/shape.h '#include "autograd/tape.h"' 'core/ must not include autograd/'
refuses core/kernels/norm.h '  # include "layers/model.h"' 'core/ must not include layers/'
refuses autograd/tape.h '#include "layers/model.h"' 'autograd/ must not include layers/'
refuses layers/model.h '#include "optim/adamw.h"' 'layers/ must not include optim/'
refuses optim/adamw.h '#include "autograd/tape.h"' 'optim/ must not include autograd/'
refuses optim/adamw.h '#include "train/loop.h"' 'optim/ must not include train/'
refuses train/main.cpp '#include "tests/support/catch.h"' 'train/ must not include tests/'
refuses core/shape.h '#include "dtype.h"' 'an include names its folder'
refuses layers/model.h '#include <yaml-cpp/yaml.h>' 'only train/ reads YAML'
refuses core/error.h '#include <nlohmann/json.hpp>' 'only train/ reads YAML, JSON'
refuses autograd/tape.cpp '#include <fstream>' 'only train/ opens files'
refuses optim/adamw.cpp 'FILE* f = std::fopen("x", "w");' 'only train/ opens files'
refuses core/kernels/attention.cpp '#include <dnnl.hpp>' 'only core/matmul.cpp uses oneDNN'
refuses train/main.cpp '#include <oneapi/dnnl/dnnl.hpp>' 'only core/matmul.cpp uses oneDNN'
refuses core/kernels/norm.h '#pragma omp parallel for' 'the one wrapper over OpenMP'
refuses layers/model.h '#include <omp.h>' 'the one wrapper over OpenMP'
refuses core/CMakeLists.txt 'target_compile_options(core PRIVATE -O3 -ffast-math)' 'isnan'
refuses README.md 'See ../''shared/design.md.' 'no user has this folder'
refuses configs/a.yaml 'train: [/wor''k/x.txt]' 'no user has this folder'
refuses utils/x.h '#include <vector>' 'nothing else lies at the top'
refuses core/kernels/build.log 'warning: none' 'no source'
refuses notes.txt 'later' 'nothing else lies at the top'

legal_tree
put core/kernels/norm.h '#pragma omp simd reduction(+ : sum)'
"$check" "$tree" || { echo "refused #pragma omp simd"; failures=$((failures + 1)); }

[ "$failures" = 0 ]
