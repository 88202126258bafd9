# Toolchain file of the preset "clang": the newest Clang on this machine, 16 or later when it has a numbered name.

find_program(
  FAIRLEAD_CLANG
  NAMES clang++-22 clang++-21 clang++-20 clang++-19 clang++-18 clang++-17 clang++-16 clang++ REQUIRED)
mark_as_advanced(FAIRLEAD_CLANG)
set(CMAKE_CXX_COMPILER "${FAIRLEAD_CLANG}")
