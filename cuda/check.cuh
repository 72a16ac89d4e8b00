// Errors of CUDA's run time as the library's own.
#pragma once

#ifdef __CUDACC__
#include <cuda_runtime.h>
#else
#include "emulation/runtime_api.h"
#endif

#include <string>

#include "densefield/error.h"

namespace densefield::cuda {

// `what` names the kernel or the call.
inline void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  throw Error(Error::Kind::runtime, std::string(what) + ": " + cudaGetErrorString(error));
}

}  // namespace densefield::cuda
