# The CUDA backend for the emulator: the kernel files of cuda/ compiled as C++. For tests; no
# wheel has it.

option(DF_CUDA_EMULATED "Build the CUDA backend for the emulator too (for tests)" OFF)
set(DF_EMULATION_SANITIZER "" CACHE STRING "Sanitizer of the emulated backend: address, thread, or none")

# The engine, and what files that are compiled against it need.
function(df_add_emulator name sanitizer)
  add_library(${name} STATIC
    cuda/emulation/block.cpp
    cuda/emulation/capture.cpp
    cuda/emulation/device_memory.cpp
    cuda/emulation/fibre.cpp
    cuda/emulation/grid.cpp
    cuda/emulation/runtime_api.cpp
    cuda/emulation/settings.cpp
    cuda/emulation/shared_memory.cpp)
  target_include_directories(${name} PUBLIC cpp/include cpp . cuda)
  target_compile_features(${name} PUBLIC cxx_std_20)
  target_link_libraries(${name} PUBLIC Threads::Threads)
  set_target_properties(${name} PROPERTIES
    POSITION_INDEPENDENT_CODE ON
    CXX_EXTENSIONS OFF
    CXX_VISIBILITY_PRESET hidden
    VISIBILITY_INLINES_HIDDEN ON)
  df_set_warnings(${name})
  if(sanitizer STREQUAL "address")
    target_compile_options(${name} PUBLIC
      -fsanitize=address,undefined -fno-sanitize-recover=undefined -g)
    target_link_options(${name} PUBLIC -fsanitize=address,undefined)
  elseif(sanitizer STREQUAL "thread")
    # The kernels alone: the engine tells the sanitizer of threads and barriers itself.
    target_compile_definitions(${name} PUBLIC DF_EMULATION_TSAN)
    target_compile_options(${name} INTERFACE -fsanitize=thread -g)
    target_link_options(${name} INTERFACE -fsanitize=thread)
  endif()
endfunction()

# df_add_emulated_sources(TARGET FILE..): adds kernel files as C++. In files that include them: CMake
# gives a file one language for all targets of a directory, and for nvcc it is CUDA.
function(df_add_emulated_sources target)
  df_batch(${target} cpp batches ${ARGN})
  # A point must land in the same simplex on every build: no fused multiply-add. `#pragma unroll`
  # is nvcc's. What is local to a file stays so although another one includes it.
  set(options -ffp-contract=off -Wno-unknown-pragmas)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    list(APPEND options -Wno-subobject-linkage)
  endif()
  set_source_files_properties(${batches} PROPERTIES COMPILE_OPTIONS "${options}")
  target_sources(${target} PRIVATE ${batches})
endfunction()

if(DF_CUDA_EMULATED)
  df_add_emulator(emulator "${DF_EMULATION_SANITIZER}")
  add_library(_densefield_cuda_emulated MODULE)
  df_set_up_cuda_library(_densefield_cuda_emulated)
  df_add_emulated_sources(_densefield_cuda_emulated ${DF_CUDA_FILES} ${DF_CUDA_EMBED_FILE})
  target_link_libraries(_densefield_cuda_emulated PRIVATE emulator)
  df_set_warnings(_densefield_cuda_emulated)
  install(TARGETS _densefield_cuda_emulated LIBRARY DESTINATION densefield)
endif()
