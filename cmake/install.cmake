# The install rules: headers, the CMake package and the pkg-config file. Nothing here depends on the architecture
# or on the place of the installation, so everything goes under share/ and may be moved afterwards.

include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

if(NOT PROJECT_VERSION_MAJOR EQUAL 0)
  message(FATAL_ERROR "version 1 is here: change SameMinorVersion below to SameMajorVersion, then remove this check")
endif()

set(package_dir ${CMAKE_INSTALL_DATADIR}/cmake/fairlead)

install(TARGETS fairlead EXPORT fairlead-targets FILE_SET HEADERS FILE_SET testing)
install(EXPORT fairlead-targets NAMESPACE fairlead:: DESTINATION ${package_dir})

configure_package_config_file(
  "${PROJECT_SOURCE_DIR}/cmake/fairlead-config.cmake.in" "${PROJECT_BINARY_DIR}/fairlead-config.cmake"
  INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(
  "${PROJECT_BINARY_DIR}/fairlead-config-version.cmake" COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
install(
  FILES "${PROJECT_BINARY_DIR}/fairlead-config.cmake" "${PROJECT_BINARY_DIR}/fairlead-config-version.cmake"
        "${PROJECT_SOURCE_DIR}/cmake/Findasio.cmake"
  DESTINATION ${package_dir})

# pkg-config: paths relative to the .pc file itself, unless whoever installs asked for absolute ones.
set(pc_dir ${CMAKE_INSTALL_DATADIR}/pkgconfig)
cmake_path(IS_ABSOLUTE pc_dir pc_dir_is_absolute)
if(pc_dir_is_absolute)
  set(pc_prefix "${CMAKE_INSTALL_PREFIX}")
else()
  cmake_path(RELATIVE_PATH CMAKE_INSTALL_PREFIX BASE_DIRECTORY "${CMAKE_INSTALL_PREFIX}/${pc_dir}" OUTPUT_VARIABLE up)
  set(pc_prefix "\${pcfiledir}/${up}")
endif()
set(pc_includedir "\${prefix}")
cmake_path(APPEND pc_includedir "${CMAKE_INSTALL_INCLUDEDIR}")
configure_file("${PROJECT_SOURCE_DIR}/cmake/fairlead.pc.in" "${PROJECT_BINARY_DIR}/fairlead.pc" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/fairlead.pc" DESTINATION ${pc_dir})
