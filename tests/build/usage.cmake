# Each script of SOURCE that may be run, asked for help: it answers at once, names itself, and succeeds.

file(GLOB_RECURSE scripts RELATIVE "${SOURCE}" "${SOURCE}/benchmarks/*.sh" "${SOURCE}/examples/*.sh" "${SOURCE}/tests/*.sh"
     "${SOURCE}/tests/examples/*.py" "${SOURCE}/benchmarks/*.py")
list(FILTER scripts EXCLUDE REGEX "/build/|(tests/examples/(example|postgresql)[.](sh|py)|benchmarks/build[.]sh)$") # shared, never run
list(APPEND scripts .ci/run)

foreach(script IN LISTS scripts)
  set(interpreter bash)
  if(script MATCHES "[.]py$")
    set(interpreter python3 -B)
  endif()
  cmake_path(GET script FILENAME name)
  foreach(option --help -h)
    execute_process(
      COMMAND ${interpreter} "${SOURCE}/${script}" ${option} TIMEOUT 20
      RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
    if(NOT result EQUAL 0 OR NOT output MATCHES "${name}")
      message(FATAL_ERROR "${script} ${option}: ${result}\n${output}")
    endif()
    if(output MATCHES "-- (configuring|building|installing)")
      message(FATAL_ERROR "${script} ${option} did more than it was asked for:\n${output}")
    endif()
  endforeach()
endforeach()
list(LENGTH scripts count)
message("asked ${count} scripts")
