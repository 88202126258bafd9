# What cmake/test_names.cmake accepts and refuses. WORK is a folder of our own.

include("${CMAKE_CURRENT_LIST_DIR}/../../cmake/test_names.cmake")

if(DEFINED ONLY) # this file again, below: the attempt that may stop
  fairlead_check_test_names("${ONLY}")
  return()
endif()

function(expect outcome text)
  file(WRITE "${WORK}/test.cpp" "${text}")
  execute_process(
    COMMAND "${CMAKE_COMMAND}" -D "ONLY=${WORK}/test.cpp" -P "${CMAKE_CURRENT_FUNCTION_LIST_FILE}"
    RESULT_VARIABLE result ERROR_VARIABLE errors)
  if((outcome STREQUAL "accepted") AND NOT result EQUAL 0)
    message(FATAL_ERROR "refused:\n${text}\n${errors}")
  elseif((outcome STREQUAL "refused") AND result EQUAL 0)
    message(FATAL_ERROR "accepted:\n${text}")
  endif()
endfunction()

expect(accepted [[TEST_CASE("a name, with a comma", "[tag]") { f("a;b"); }]])
expect(accepted "TEST_CASE(\n    \"a name\"\n    \" in two\", \"[tag]\")\n{\n    f(\";\");\n}\n")
expect(accepted [[int x = 1; TEST_CASE("with \"quotes\"") {}]])
expect(refused [[TEST_CASE("first this; then that", "[tag]") {}]])
expect(refused "int a;\nTEST_CASE(\n    \"a name\"\n    \" in two; or three\", \"[tag]\")\n{}\n")
expect(refused [[TEST_CASE_METHOD(fixture, "this; that") {}]])
expect(refused [[TEMPLATE_TEST_CASE("with \"quotes\"; and more", "", int) {}]])
