# One object per instruction set for the inner loops of cpp/cpu/simd. The best one that the
# processor has is chosen at run time; no flag here reaches any other source.

set(DF_SIMD_LEVELS base)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
  list(APPEND DF_SIMD_LEVELS avx2 avx512)
  target_compile_definitions(densefield_core PRIVATE DF_X86_64)
endif()

set(DF_SIMD_FLAGS_base "")
set(DF_SIMD_FLAGS_avx2 -mavx2 -mfma)
# 512-bit registers were measured slower on rows of 24 floats; the masks and the 32
# registers are what helps.
set(DF_SIMD_FLAGS_avx512
  -mavx512f -mavx512vl -mavx512dq -mavx512bw -mavx2 -mfma -mprefer-vector-width=256)

foreach(level ${DF_SIMD_LEVELS})
  target_sources(densefield_core PRIVATE
    cpp/cpu/simd/kernels_${level}.cpp cpp/cpu/simd/embed_${level}.cpp
    cpp/cpu/simd/window_${level}.cpp cpp/cpu/simd/reverse_${level}.cpp)
  # -Wno-psabi: vectors wider than the level's registers are passed to inlined functions
  # only, so the change of calling convention that the note speaks of concerns nobody.
  set_source_files_properties(
    cpp/cpu/simd/kernels_${level}.cpp cpp/cpu/simd/window_${level}.cpp
    cpp/cpu/simd/reverse_${level}.cpp PROPERTIES
    COMPILE_OPTIONS "-O3;-Wno-psabi;${DF_SIMD_FLAGS_${level}}")
  # A point must land in the same simplex on every build: no fused multiply-add where
  # points are embedded.
  set_source_files_properties(cpp/cpu/simd/embed_${level}.cpp PROPERTIES
    COMPILE_OPTIONS "-O3;-Wno-psabi;-ffp-contract=off;${DF_SIMD_FLAGS_${level}}")
endforeach()
target_sources(densefield_core PRIVATE
  cpp/cpu/simd/dispatch.cpp)

# Features are divided by sigma there, for the same reason.
set_source_files_properties(cpp/cpu/build.cpp cpp/plan/key_layout.cpp PROPERTIES
  COMPILE_OPTIONS -ffp-contract=off)
