# Installs the build in BINARY_DIR into PREFIX, and a second time into a folder that is then renamed to MOVED.
# Nothing installed may name a place on this machine.

foreach(folder IN ITEMS "${PREFIX}" "${MOVED}")
  file(REMOVE_RECURSE "${folder}")
endforeach()

foreach(folder IN ITEMS "${PREFIX}" "${MOVED}.before")
  execute_process(
    COMMAND "${CMAKE_COMMAND}" --install "${BINARY_DIR}" --prefix "${folder}" OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)
endforeach()
file(RENAME "${MOVED}.before" "${MOVED}")

file(GLOB_RECURSE installed "${PREFIX}/*")
foreach(file IN LISTS installed)
  file(READ "${file}" text)
  string(FIND "${text}" "${BINARY_DIR}" at)
  if(NOT at EQUAL -1)
    message(FATAL_ERROR "${file} names ${BINARY_DIR}")
  endif()
endforeach()
list(LENGTH installed count)
message("installed ${count} files")
