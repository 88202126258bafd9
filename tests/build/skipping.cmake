# Runs PROGRAM, which skipping.cpp makes, and compares exit codes: skipped means 77, and only if nothing else ran.

function(expect code) # then: the names of the tests
  list(JOIN ARGN "," specification)
  execute_process(COMMAND "${PROGRAM}" "${specification}" RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(code STREQUAL "a failure")
    if(result EQUAL 0 OR result EQUAL 77)
      message(FATAL_ERROR "${ARGN}: exit code ${result}, expected a failure\n${output}")
    endif()
  elseif(NOT result STREQUAL code)
    message(FATAL_ERROR "${ARGN}: exit code ${result}, expected ${code}\n${output}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

expect(77 "skips")
if(NOT output MATCHES "SKIPPED: needs a machine from the future")
  message(FATAL_ERROR "the reason is not printed:\n${output}")
endif()
expect(77 "skips one of its values")
expect(77 "skips" "skips one of its values")
expect(0 "passes")
expect(0 "skips" "passes") # by hand nothing vanishes
if(NOT output MATCHES "SKIPPED: needs a machine from the future")
  message(FATAL_ERROR "the reason is not printed:\n${output}")
endif()
expect("a failure" "fails and skips")
expect("a failure" "skips" "fails and skips")
