# The CUDA backend: a library of its own beside the module, opened on first use. It is built by
# nvcc where there is one (AUTO), always (ON) or never (OFF).

set(DF_CUDA_FILES
  cuda/arrays.cu
  cuda/backend.cu
  cuda/binary_pass.cu
  cuda/blur.cu
  cuda/build.cu
  cuda/device.cu
  cuda/elements.cu
  cuda/energy.cu
  cuda/feature_gradient.cu
  cuda/grid_gradient.cu
  cuda/grid_kernel.cu
  cuda/key_layout.cu
  cuda/mean_field_pass.cu
  cuda/memory.cu
  cuda/point_lists.cu
  cuda/recording.cu
  cuda/reverse_pass.cu
  cuda/reverse_steps.cu
  cuda/rows.cu
  cuda/scan.cu
  cuda/slice.cu
  cuda/sort.cu
  cuda/splat.cu
  cuda/update.cu
  cuda/weighted_unary.cu
  cuda/window_apply.cu
  cuda/window_build.cu
  cuda/window_gradient.cu
  cuda/window_pass.cu
  cuda/window_products.cu
  cuda/window_resample.cu
  cuda/window_reverse.cu
  cuda/window_term_gradient.cu)
# By itself, because nvcc has a flag for it alone.
set(DF_CUDA_EMBED_FILE cuda/embed.cu)
# Plans made on the host: compiled into each library for itself.
set(DF_CUDA_HOST_FILES
  cpp/plan/key_layout.cpp
  cpp/plan/window_geometry.cpp)

# Module and library hand each other C++ objects: both must be of one build.
set(DF_CUDA_BUILD
  "densefield ${SKBUILD_PROJECT_VERSION_FULL} ${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}")

# df_batch(STEM EXTENSION RESULT FILE..): files STEM_0, STEM_1, .. that include a few of the given
# ones each. Headers take most of the time of a file, and nvcc reads them once per architecture.
# Many files have a macro DF_INSTANTIATE of their own, which ends with them; other names that are
# local to a file must differ within a batch, or the compiler says so.
function(df_batch stem extension result)
  set(files ${ARGN})
  set(batches "")
  while(files)
    list(SUBLIST files 0 4 batch)
    list(REMOVE_ITEM files ${batch})
    list(TRANSFORM batch REPLACE ".+"
      "#include \"${CMAKE_CURRENT_SOURCE_DIR}/\\0\"\n#undef DF_INSTANTIATE\n")
    string(CONCAT content ${batch})
    list(LENGTH batches index)
    set(path ${CMAKE_CURRENT_BINARY_DIR}/batches/${stem}_${index}.${extension})
    file(CONFIGURE OUTPUT ${path} CONTENT "${content}" @ONLY)
    list(APPEND batches ${path})
  endwhile()
  set(${result} ${batches} PARENT_SCOPE)
endfunction()

# A library that Python's module opens; what it shows is cuda/library.h.
function(df_set_up_cuda_library name)
  target_sources(${name} PRIVATE ${DF_CUDA_HOST_FILES})
  target_include_directories(${name} PRIVATE cpp/include cpp cuda .)
  target_compile_definitions(${name} PRIVATE DF_CUDA_BUILD="${DF_CUDA_BUILD}")
  set_target_properties(${name} PROPERTIES
    PREFIX ""
    POSITION_INDEPENDENT_CODE ON
    CXX_EXTENSIONS OFF
    CXX_VISIBILITY_PRESET hidden
    VISIBILITY_INLINES_HIDDEN ON)
endfunction()

# CUDACXX, unless it is given: nvcc on the PATH, at CUDA's own place, or of NVIDIA's wheels in the
# Python that builds.
function(df_choose_nvcc)
  if(CMAKE_CUDA_COMPILER OR NOT "$ENV{CUDACXX}" STREQUAL "")
    return()
  endif()
  find_program(DF_NVCC nvcc PATHS /usr/local/cuda/bin DOC "nvcc outside of Python's packages")
  mark_as_advanced(DF_NVCC)
  file(GLOB found "${Python_SITELIB}/nvidia/cu*/bin/nvcc")
  if(DF_NVCC)
    set(ENV{CUDACXX} "${DF_NVCC}")
  elseif(found)
    list(GET found -1 newest)
    set(ENV{CUDACXX} "${newest}")
  endif()
endfunction()

# The wheels have their libraries in lib, where nvcc looks into lib64.
function(df_show_libraries_to_nvcc)
  set(nvcc "${CMAKE_CUDA_COMPILER}")
  if(NOT nvcc)
    set(nvcc "$ENV{CUDACXX}")
  endif()
  get_filename_component(root "${nvcc}/../.." ABSOLUTE)
  if(EXISTS "${root}/lib/libcudart_static.a" AND NOT EXISTS "${root}/lib64")
    # Not CMAKE_CUDA_FLAGS, which the check for the language does not hand on.
    set(ENV{CUDAFLAGS} "$ENV{CUDAFLAGS} -L\"${root}/lib\"")
  endif()
endfunction()

function(df_find_nvcc)
  # Turing and newer; the last one also as PTX, for devices to come.
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 75-real 80-real 86-real 89-real 90-real 100-real 120
      CACHE STRING "Architectures of the CUDA library")
  endif()
  df_choose_nvcc()
  df_show_libraries_to_nvcc()
  include(CheckLanguage)
  check_language(CUDA)
endfunction()

function(df_add_cuda_library)
  df_batch(cuda cu batches ${DF_CUDA_FILES})
  add_library(_densefield_cuda MODULE ${DF_CUDA_EMBED_FILE} ${batches})
  df_set_up_cuda_library(_densefield_cuda)
  target_compile_features(_densefield_cuda PRIVATE cxx_std_20)
  set_target_properties(_densefield_cuda PROPERTIES
    CUDA_RUNTIME_LIBRARY Static
    CUDA_EXTENSIONS OFF
    CUDA_VISIBILITY_PRESET hidden)
  # The standard by its flag: CMake 3.25 knows no features of CUDA 13. std::integral_constant and
  # std::array in kernels: their functions are constexpr.
  target_compile_options(_densefield_cuda PRIVATE
    $<$<COMPILE_LANGUAGE:CUDA>:-std=c++20 --expt-relaxed-constexpr --compress-mode=size>)
  if(DF_WERROR)
    # A kernel that spills its registers has lost its speed.
    target_compile_options(_densefield_cuda PRIVATE
      $<$<COMPILE_LANGUAGE:CUDA>:SHELL:-Werror all-warnings -Xptxas -warn-spills,-Werror>)
  endif()
  # A point must land in the same simplex as on the CPU: no fused multiply-add where points are
  # embedded.
  set_source_files_properties(${DF_CUDA_EMBED_FILE} PROPERTIES COMPILE_OPTIONS -fmad=false)
  install(TARGETS _densefield_cuda LIBRARY DESTINATION densefield)
endfunction()

set(DF_CUDA_BUILD_NOTE
  "this build of densefield has no CUDA library: it was made with DENSEFIELD_CUDA=OFF")
if(NOT DENSEFIELD_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "DENSEFIELD_CUDA must be AUTO, ON or OFF, got '${DENSEFIELD_CUDA}'")
elseif(NOT DENSEFIELD_CUDA STREQUAL "OFF")
  df_find_nvcc()
  if(CMAKE_CUDA_COMPILER)
    enable_language(CUDA)
  endif()
  # The oldest one that knows all of the architectures.
  set(DF_OLDEST_NVCC 12.8)
  if(NOT CMAKE_CUDA_COMPILER)
    set(DF_CUDA_BUILD_NOTE
      "this build of densefield has no CUDA library, because there was no nvcc")
  elseif(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS DF_OLDEST_NVCC)
    set(DF_CUDA_BUILD_NOTE
      "this build of densefield has no CUDA library, because nvcc ${CMAKE_CUDA_COMPILER_VERSION} is older than ${DF_OLDEST_NVCC}")
  else()
    set(DF_CUDA_BUILD_NOTE "")
    df_add_cuda_library()
  endif()
  if(DENSEFIELD_CUDA STREQUAL "ON" AND DF_CUDA_BUILD_NOTE)
    message(FATAL_ERROR "DENSEFIELD_CUDA=ON needs nvcc ${DF_OLDEST_NVCC} or newer, found "
      "'${CMAKE_CUDA_COMPILER_VERSION}'; install CUDA or its wheels for pip, or name its compiler in CUDACXX")
  endif()
endif()
if(TARGET _densefield_cuda)
  message(STATUS "densefield: CUDA library for ${CMAKE_CUDA_ARCHITECTURES}")
else()
  message(STATUS "densefield: ${DF_CUDA_BUILD_NOTE}")
endif()
