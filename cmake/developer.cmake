# Settings and checks for a build of fairlead itself. Included only when fairlead is the top-level project, so
# whatever is global here never reaches a project that uses the library.

set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_CXX_SCAN_FOR_MODULES OFF) # there are none, and scanning for them needs another tool from CMake 3.28 on

# A compiler cache, when there is one. With these settings it serves another clone of this repository too, files
# that include a precompiled header, and headers installed a moment ago; our own objects tolerate all of it.
find_program(FAIRLEAD_CCACHE ccache)
mark_as_advanced(FAIRLEAD_CCACHE)
if(FAIRLEAD_CCACHE AND NOT DEFINED CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER
      ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${PROJECT_SOURCE_DIR} CCACHE_NOHASHDIR=1
      CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_ctime,include_file_mtime ${FAIRLEAD_CCACHE})
endif()

# fairlead_require_listed(FOUND_IN <pattern>... LISTED <file>... LIST <where the list is>)
#
# Stops when a file matches a pattern (searched recursively, relative to the current directory) and is not in the
# list, or is in the list and does not exist: a header nobody installs, or a test nobody runs, is found at once.
function(fairlead_require_listed)
  cmake_parse_arguments(PARSE_ARGV 0 arg "" "LIST" "FOUND_IN;LISTED")
  file(GLOB_RECURSE found RELATIVE "${CMAKE_CURRENT_SOURCE_DIR}" CONFIGURE_DEPENDS ${arg_FOUND_IN})

  set(unlisted ${found})
  list(REMOVE_ITEM unlisted ${arg_LISTED})
  set(missing ${arg_LISTED})
  list(REMOVE_ITEM missing ${found})

  if(unlisted)
    message(FATAL_ERROR "not listed: ${unlisted}\nAdd each to ${arg_LIST}.")
  endif()
  if(missing)
    message(FATAL_ERROR "listed, but there is no such file: ${missing}\nRemove each from ${arg_LIST}.")
  endif()
endfunction()

# The vcpkg port must repeat the version, because vcpkg reads it before CMake runs. It must repeat it correctly.
set(port_manifest cmake/vcpkg-port/vcpkg.json)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS include/fairlead/version.hpp ${port_manifest})
file(READ ${port_manifest} port_json)
string(JSON port_version GET "${port_json}" version)
if(NOT port_version VERSION_EQUAL PROJECT_VERSION)
  message(FATAL_ERROR "${port_manifest} says ${port_version}, include/fairlead/version.hpp says ${PROJECT_VERSION}")
endif()
