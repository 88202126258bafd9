# An overlay port: vcpkg install fairlead --overlay-ports=<this repository>/cmake/vcpkg-port
#
# It packages the working tree it lies in, or the one named by VCPKG_FAIRLEAD_SOURCE_PATH. A port for the vcpkg
# registry differs in one step: vcpkg_from_github() with a release tag and its SHA512 sets SOURCE_PATH. OWNER in
# vcpkg.json's homepage is whoever publishes the repository.

set(VCPKG_BUILD_TYPE release) # header-only

if(DEFINED ENV{VCPKG_FAIRLEAD_SOURCE_PATH})
  set(SOURCE_PATH "$ENV{VCPKG_FAIRLEAD_SOURCE_PATH}")
else()
  get_filename_component(SOURCE_PATH "${CMAKE_CURRENT_LIST_DIR}/../.." ABSOLUTE)
endif()

vcpkg_cmake_configure(
  SOURCE_PATH "${SOURCE_PATH}"
  OPTIONS -DFAIRLEAD_BUILD_TESTS=OFF -DFAIRLEAD_BUILD_EXAMPLES=OFF -DFAIRLEAD_INSTALL=ON)
vcpkg_cmake_install()
vcpkg_cmake_config_fixup(CONFIG_PATH share/cmake/fairlead)
vcpkg_fixup_pkgconfig()

vcpkg_install_copyright(FILE_LIST "${SOURCE_PATH}/LICENSE")
file(INSTALL "${CMAKE_CURRENT_LIST_DIR}/usage" DESTINATION "${CURRENT_PACKAGES_DIR}/share/${PORT}")
