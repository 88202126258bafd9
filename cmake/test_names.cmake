# fairlead_check_test_names(<file>...): stops at a name of a Catch2 test that holds a ';'.
#
# catch_discover_tests takes such a name for several: with Catch2 2 each half runs no test at all, and passes.
function(fairlead_check_test_names)
  # The name may be cut into several literals, and follow the name of a fixture class.
  set(literal "\"([^\"\\]|\\\\.)*\"")
  set(broken "\"([^\";\\]|\\\\.)*;")
  foreach(file IN LISTS ARGN)
    file(READ "${file}" text)
    if(text MATCHES "TEST_CASE[A-Z_]*[ \n]*\\([^\"()]*(${literal}[ \n]*)*${broken}[^\n]*")
      message(FATAL_ERROR "${file}: a test's name must not contain ';', or it is never run:\n  ${CMAKE_MATCH_0}")
    endif()
  endforeach()
endfunction()
