"""A Conan 2 recipe: conan create cmake/conan

It packages the working tree it lies in. A recipe for conan-center differs in one step: source() gets a release's
archive, with its SHA256, where export_sources() copies the tree.
"""

import os
import re

from conan import ConanFile
from conan.tools.build import check_min_cppstd
from conan.tools.files import copy, load
from conan.tools.layout import basic_layout

required_conan_version = ">=2.0"


class FairleadConan(ConanFile):
    name = "fairlead"
    description = "Production TCP and TLS servers from one C++20 coroutine, on standalone Asio"
    license = "MIT"
    topics = ("asio", "coroutines", "header-only", "server", "tcp", "tls")
    package_type = "header-library"
    settings = "os", "arch", "compiler", "build_type"
    no_copy_source = True

    @property
    def _tree(self):
        return os.path.join(self.recipe_folder, "..", "..")

    def set_version(self):  # written in version.hpp and nowhere else
        text = load(self, os.path.join(self._tree, "include", "fairlead", "version.hpp"))
        numbers = re.findall(r"^#define FAIRLEAD_VERSION_[A-Z]+ (\d+)$", text, re.MULTILINE)
        self.version = ".".join(numbers)

    def export_sources(self):
        for pattern in ("LICENSE", "include/*"):
            copy(self, pattern, src=self._tree, dst=self.export_sources_folder)

    def requirements(self):
        self.requires("asio/[>=1.22.1 <2]", transitive_headers=True)
        self.requires("openssl/[>=1.1.1 <4]", transitive_headers=True, transitive_libs=True)

    def validate(self):
        check_min_cppstd(self, 20)

    def layout(self):
        basic_layout(self)

    def package_id(self):
        self.info.clear()

    def package(self):
        copy(self, "LICENSE", src=self.source_folder, dst=os.path.join(self.package_folder, "licenses"))
        copy(self, "*.hpp", src=os.path.join(self.source_folder, "include"),
             dst=os.path.join(self.package_folder, "include"))

    def package_info(self):
        # find_package(fairlead), fairlead::fairlead; Conan's own description of asio and openssl comes with it.
        self.cpp_info.bindirs = []
        self.cpp_info.libdirs = []
        self.cpp_info.requires = ["asio::asio", "openssl::ssl", "openssl::crypto"]
        if self.settings.os in ("Linux", "FreeBSD"):
            self.cpp_info.system_libs = ["pthread"]
