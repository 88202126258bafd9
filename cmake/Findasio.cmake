# Findasio: standalone Asio as the target asio::asio, from wherever this machine has it.
#
#   1. a package description of its own (vcpkg, Conan)
#   2. headers on disk (Debian and Fedora packages, a source tree named by asio_ROOT or CMAKE_PREFIX_PATH)
#   3. only when FAIRLEAD_FETCH_DEPS is ON: a download, FAIRLEAD_ASIO_TAG of the upstream repository
#
# Sets asio_FOUND and asio_VERSION. The name is lower case because that is the name vcpkg and Conan answer to.

# This inner call would take over the version that was asked for, and refuse vcpkg's description, which states none.
# The version is compared below, by the headers.
set(asio_wanted_version "${asio_FIND_VERSION_COMPLETE}")
unset(asio_FIND_VERSION_COMPLETE)
find_package(asio CONFIG QUIET)
set(asio_FIND_VERSION_COMPLETE "${asio_wanted_version}")
mark_as_advanced(asio_DIR)

if(TARGET asio::asio)
  get_target_property(_asio_directories asio::asio INTERFACE_INCLUDE_DIRECTORIES)
  if(NOT _asio_directories)
    set(_asio_directories)
  endif()
  list(FILTER _asio_directories EXCLUDE REGEX "\\$<") # Conan's may depend on the configuration: then the default path
  find_path(asio_INCLUDE_DIR asio/version.hpp HINTS ${_asio_directories} ${ASIO_INCLUDE_DIR})
else()
  find_path(asio_INCLUDE_DIR asio/version.hpp)
endif()

if(NOT asio_INCLUDE_DIR AND NOT TARGET asio::asio AND FAIRLEAD_FETCH_DEPS)
  include(FetchContent)
  set(FAIRLEAD_ASIO_TAG asio-1-38-2 CACHE STRING "The Asio release to download when FAIRLEAD_FETCH_DEPS is ON")
  FetchContent_Declare(
    asio
    GIT_REPOSITORY https://github.com/chriskohlhoff/asio.git
    GIT_TAG ${FAIRLEAD_ASIO_TAG}
    GIT_SHALLOW ON)
  FetchContent_MakeAvailable(asio) # no CMakeLists.txt in there: this only downloads
  # The headers moved up one folder in 1.37.
  find_path(
    asio_INCLUDE_DIR asio/version.hpp
    PATHS "${asio_SOURCE_DIR}/include" "${asio_SOURCE_DIR}/asio/include"
    NO_DEFAULT_PATH)
endif()
mark_as_advanced(asio_INCLUDE_DIR)

if(asio_INCLUDE_DIR AND NOT asio_VERSION)
  # "#define ASIO_VERSION 102201 // 1.22.1"
  file(STRINGS "${asio_INCLUDE_DIR}/asio/version.hpp" _asio_version REGEX "^#define ASIO_VERSION [0-9]+")
  string(REGEX MATCH "[0-9]+" _asio_version "${_asio_version}")
  math(EXPR _asio_major "${_asio_version} / 100000")
  math(EXPR _asio_minor "${_asio_version} / 100 % 1000")
  math(EXPR _asio_patch "${_asio_version} % 100")
  set(asio_VERSION "${_asio_major}.${_asio_minor}.${_asio_patch}")
endif()

set(asio_LOCATION "${asio_INCLUDE_DIR}")
if(TARGET asio::asio)
  set(asio_LOCATION "target asio::asio")
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(
  asio
  REQUIRED_VARS asio_LOCATION
  VERSION_VAR asio_VERSION
  REASON_FAILURE_MESSAGE
    "Install it (Debian, Ubuntu: libasio-dev - Fedora: asio-devel - vcpkg, Conan: asio), name its folder with \
-Dasio_INCLUDE_DIR=..., or let it be downloaded with -DFAIRLEAD_FETCH_DEPS=ON.")

if(asio_FOUND)
  if(NOT TARGET asio::asio)
    find_package(Threads REQUIRED)
    add_library(asio::asio INTERFACE IMPORTED)
    target_include_directories(asio::asio SYSTEM INTERFACE "${asio_INCLUDE_DIR}")
    target_link_libraries(asio::asio INTERFACE Threads::Threads)
  endif()

  # In a project that brings Asio itself, asio::asio may be an alias, which takes no definitions.
  get_target_property(_asio_target asio::asio ALIASED_TARGET)
  if(NOT _asio_target)
    set(_asio_target asio::asio)
  endif()
  target_compile_definitions(${_asio_target} INTERFACE ASIO_STANDALONE)

  # Before 1.26 Asio does not see that Clang with libstdc++ has coroutines, and leaves out asio::awaitable.
  if(CMAKE_CXX_COMPILER_ID MATCHES "Clang" AND asio_VERSION VERSION_LESS 1.26)
    target_compile_definitions(${_asio_target} INTERFACE ASIO_HAS_CO_AWAIT=1 ASIO_HAS_STD_COROUTINE=1)
  endif()
endif()
