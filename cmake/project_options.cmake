# fairlead_project_options: how our own tests, examples and benchmarks are compiled. It is never installed or
# exported: users get no warning flag and no definition from us.

add_library(fairlead_project_options INTERFACE)
target_link_libraries(fairlead_project_options INTERFACE fairlead::fairlead)
target_compile_definitions(fairlead_project_options INTERFACE ASIO_NO_DEPRECATED)
if(FAIRLEAD_ASIO_REACTOR)
  target_compile_definitions(fairlead_project_options INTERFACE FAIRLEAD_ASIO_REACTOR)
endif()

# Instrumented code makes g++ 12 see uninitialised variables that are none: there, warnings stay warnings.
set(fairlead_warnings_are_errors)
if(FAIRLEAD_WERROR AND NOT FAIRLEAD_SANITIZE)
  set(fairlead_warnings_are_errors -Werror)
endif()

if(CMAKE_CXX_COMPILER_FRONTEND_VARIANT STREQUAL "MSVC" OR MSVC)
  target_compile_options(fairlead_project_options INTERFACE /W4 $<$<BOOL:${FAIRLEAD_WERROR}>:/WX> /bigobj /permissive- /Zc:__cplusplus)
  target_compile_definitions(fairlead_project_options INTERFACE _WIN32_WINNT=0x0A00)
else()
  target_compile_options(
    fairlead_project_options INTERFACE -Wall -Wextra -Wpedantic -Wconversion -Wshadow
                                       ${fairlead_warnings_are_errors})
endif()

# g++ 12 sees Asio's operator delete of coroutine frames inlined, and the matching operator new not.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  target_compile_options(fairlead_project_options INTERFACE -Wno-mismatched-new-delete)
endif()

if(FAIRLEAD_SANITIZE)
  list(JOIN FAIRLEAD_SANITIZE "," sanitizers)
  target_compile_options(
    fairlead_project_options INTERFACE -fsanitize=${sanitizers} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(fairlead_project_options INTERFACE -fsanitize=${sanitizers})

  # g++ warns about every std::atomic_thread_fence that ThreadSanitizer cannot see, and Asio has some.
  if("thread" IN_LIST FAIRLEAD_SANITIZE AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    target_compile_options(fairlead_project_options INTERFACE -Wno-tsan)
  endif()
endif()
