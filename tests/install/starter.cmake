# Copies examples/starter of SOURCE to WORK, configures it so that fairlead comes by WAY (find_package: from PREFIX;
# FetchContent: from SOURCE, as nothing may be downloaded), builds it, runs its test, and starts its server once.

file(REMOVE_RECURSE "${WORK}")
file(COPY "${SOURCE}/examples/starter" DESTINATION "${WORK}")
set(source "${WORK}/starter")
set(build "${WORK}/build")

if(WAY STREQUAL "find_package")
  set(options "-DCMAKE_PREFIX_PATH=${PREFIX}")
else()
  set(options "-DCMAKE_DISABLE_FIND_PACKAGE_fairlead=ON" "-DFETCHCONTENT_SOURCE_DIR_FAIRLEAD=${SOURCE}"
              -DFETCHCONTENT_FULLY_DISCONNECTED=ON)
endif()

function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT result EQUAL 0)
    list(JOIN ARGN " " command)
    message(FATAL_ERROR "${command}: ${result}\n${output}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

set(ENV{CMAKE_CXX_COMPILER_LAUNCHER} "${LAUNCHER}") # a list, as an argument it would fall apart
run("${CMAKE_COMMAND}" -S "${source}" -B "${build}" -G "${GENERATOR}" "-DCMAKE_CXX_COMPILER=${COMPILER}"
    "-DCMAKE_CXX_FLAGS=${FLAGS}" ${options})
run("${CMAKE_COMMAND}" --build "${build}" --parallel 1)
run("${CTEST}" --test-dir "${build}" --output-on-failure --no-tests=error)

# What main() makes of an address that is none: a message and a failure, not an abort.
execute_process(COMMAND "${build}/starter" nonsense RESULT_VARIABLE result ERROR_VARIABLE errors)
if(NOT result EQUAL 1 OR NOT errors MATCHES "^starter: [^\n]*\"nonsense\"")
  message(FATAL_ERROR "the address 'nonsense': ${result}\n${errors}")
endif()
