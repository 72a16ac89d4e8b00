// How kernels are written and started. Every kernel file includes this one: under nvcc it is
// CUDA, under any other C++20 compiler the emulator.
//
// Rules for kernels: shared memory through DF_SHARED and DF_DYNAMIC_SHARED only; atomics for
// every access that may race; no return before a barrier that others wait at; exact masks for
// warp functions; any block size that the launcher chooses must do.
#pragma once

#include <cstdint>

#include "check.cuh"
#include "densefield/view.h"

#ifdef __CUDACC__
// As static arrays and as one array of the launch's size.
#define DF_SHARED(T, name, count) __shared__ T name[count]
#define DF_DYNAMIC_SHARED(T, name)                                   \
  extern __shared__ __align__(16) unsigned char df_dynamic_shared[]; \
  T* name = reinterpret_cast<T*>(df_dynamic_shared)
#else
#include "emulation/kernel_language.h"
#define DF_SHARED(T, name, count) \
  T(&name)[count] = ::densefield::emulation::shared_declaration<T[count], decltype([] {})>()
#define DF_DYNAMIC_SHARED(T, name) \
  T* name = static_cast<T*>(::densefield::emulation::this_grid()->shared)
#endif

namespace densefield::cuda {

constexpr int kWarp = 32;

// Threads of a block. Small under the thread sanitizer, which keeps a history for each.
#ifdef DF_EMULATION_TSAN
constexpr int kBlock = 64;
#else
constexpr int kBlock = 256;
#endif

// Where and how wide a kernel runs.
struct LaunchShape {
  dim3 grid;
  dim3 block;
  std::size_t shared_bytes = 0;
};

// One thread for each of `count` items.
inline LaunchShape one_each(int64_t count) {
  return {dim3(static_cast<unsigned>((count + kBlock - 1) / kBlock)), dim3(kBlock)};
}
__device__ inline int64_t item_of_thread() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}

// Groups of up to 8 neighbouring lanes, one for each of `count` rows of channels: 8 channels of
// a float are the 32 bytes that memory is read by.
inline LaunchShape group_each(int64_t count, int64_t num_channels) {
  constexpr unsigned kWidest = 8;
  unsigned width = 1;
  while (width < kWidest && width < num_channels) width *= 2;
  const unsigned rows = kBlock / width;
  return {dim3(static_cast<unsigned>((count + rows - 1) / rows)), dim3(width, rows)};
}
__device__ inline int64_t row_of_group() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
}
__device__ inline unsigned lane_of_thread() {
  return (threadIdx.y * blockDim.x + threadIdx.x) % kWarp;
}
// The lanes of the calling thread's group.
__device__ inline unsigned mask_of_group() {
  const unsigned ones = blockDim.x >= kWarp ? ~0u : (1u << blockDim.x) - 1;
  return ones << (lane_of_thread() / blockDim.x * blockDim.x);
}

// Starts a kernel on the stream; errors name it.
template <typename... P, typename... A>
void launch(const char* name, void (*kernel)(P...), const LaunchShape& shape, cudaStream_t stream,
            A... arguments) {
#ifdef __CUDACC__
  kernel<<<shape.grid, shape.block, shape.shared_bytes, stream>>>(static_cast<P>(arguments)...);
  check(cudaGetLastError(), name);
#else
  check(emulation::run_kernel(name, kernel, {shape.grid, shape.block, shape.shared_bytes, nullptr},
                              stream, arguments...),
        name);
#endif
}

}  // namespace densefield::cuda
