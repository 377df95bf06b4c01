# Included by ctest for each test binary: registers every Catch2 test case as a ctest test of its own.
# Catch2's own script differs between versions 2 and 3: only 3 can discover when ctest starts, and with
# both a binary whose spec matches no test is a warning or an error. Expects the variables `binary` and
# `catch2_version`.
if(catch2_version VERSION_LESS 3)
  set(list_names --list-test-names-only)
  set(no_test_fails --warn NoTests)   # as version 3 does by itself when a name selects nothing
else()
  set(list_names --list-tests --verbosity quiet)
  set(no_test_fails)
endif()

# Two threads: parallel code runs in parallel, the same on every machine, and several tests run beside each
# other; passive: threads that wait give their core to those tests. A test of thread counts sets its own.
set(environment "OMP_NUM_THREADS=2" "OMP_WAIT_POLICY=passive")

# Arguments after the prefix are ctest properties of the tests that the spec matches.
function(add_tests_of spec prefix)
  execute_process(COMMAND "${binary}" "${spec}" ${list_names} OUTPUT_VARIABLE names ERROR_VARIABLE errors
    RESULT_VARIABLE status)
  # Version 2 exits with the number of tests listed. A signal's name instead of a number is a crash.
  if(NOT status MATCHES "^[0-9]+$" OR (names STREQUAL "" AND NOT status EQUAL 0))
    message(FATAL_ERROR "${binary} cannot list its tests: ${status} ${errors}")
  endif()

  # Not a foreach: a name may hold semicolons or unbalanced brackets, which a CMake list cannot.
  string(FIND "${names}" "\n" end)
  while(NOT end EQUAL -1)
    string(SUBSTRING "${names}" 0 ${end} name)
    math(EXPR next "${end} + 1")
    string(SUBSTRING "${names}" ${next} -1 names)
    string(FIND "${names}" "\n" end)
    if(name STREQUAL "")
      continue()
    endif()
    string(REGEX REPLACE "([][,\\\"])" "\\\\\\1" exactly "${name}")
    string(REGEX REPLACE "^([-~])" "\\\\\\1" exactly "${exactly}")   # no option, no exclusion
    add_test("${prefix}${name}" "${binary}" "${exactly}" ${no_test_fails})
    set_tests_properties("${prefix}${name}" PROPERTIES ENVIRONMENT "${environment}" ${ARGN})
  endwhile()
endfunction()

if(NOT EXISTS "${binary}")
  add_test("${binary} is built" "${binary}")   # fails, and says which
  return()
endif()
add_tests_of("~[slow]~[bench]~[.]" "" TIMEOUT 300)
add_tests_of("[slow]" "slow: " LABELS slow TIMEOUT 1200)
add_tests_of("[bench]" "bench: " LABELS bench TIMEOUT 1200 RUN_SERIAL ON)
