# The CUDA backend is not part of this version: AUTO builds for the CPU and says so.

if(DENSEFIELD_CUDA STREQUAL "ON")
  message(FATAL_ERROR
    "DENSEFIELD_CUDA=ON: this version has no CUDA backend yet; use AUTO or OFF")
elseif(NOT DENSEFIELD_CUDA MATCHES "^(AUTO|OFF)$")
  message(FATAL_ERROR "DENSEFIELD_CUDA must be AUTO, ON or OFF, got '${DENSEFIELD_CUDA}'")
endif()
set(DF_CUDA_BUILD_NOTE "this version of densefield has no CUDA backend yet")
message(STATUS "densefield: CPU backend only (${DF_CUDA_BUILD_NOTE})")
