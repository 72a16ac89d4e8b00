// CUDA's language for kernels as C++: what a kernel file may use, and no more. Meanings are
// CUDA's own; launch.cuh includes this file where nvcc is not the compiler.
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include "capture.h"
#include "densefield/error.h"
#include "device_memory.h"
#include "engine.h"

#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)
#define threadIdx (::densefield::emulation::this_thread()->thread)
#define blockIdx (::densefield::emulation::this_thread()->block)
#define blockDim (::densefield::emulation::this_grid()->block)
#define gridDim (::densefield::emulation::this_grid()->grid)

namespace densefield::emulation {

// The array of a __shared__ declaration; Tag makes every declaration another one.
template <typename Array, typename Tag>
Array& shared_declaration() {
  static const int declaration = new_shared_declaration();
  return *static_cast<Array*>(shared_array(declaration, sizeof(Array)));
}

template <typename T>
uint64_t to_bits(T value) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  return bits;
}
template <typename T>
T from_bits(uint64_t bits) {
  T value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

template <typename T, typename Change>
T read_and_write(T* place, Change change) {
  maybe_switch();
  std::atomic_ref<T> atomic(*place);
  T before = atomic.load(std::memory_order_relaxed);
  while (!atomic.compare_exchange_weak(before, change(before), std::memory_order_relaxed)) {
  }
  return before;
}

// Structures of kernel arguments name their pointers by for_pointers(visit).
template <typename T>
void check_argument(const char* kernel, int number, const T& argument) {
  const auto check = [&](const auto* pointer) {
    if (pointer != nullptr && !is_device_pointer(pointer))
      throw Error(Error::Kind::runtime, std::string(kernel) + ": argument " +
                                            std::to_string(number) + " is not a device pointer");
  };
  if constexpr (std::is_pointer_v<T>)
    check(argument);
  else if constexpr (requires { argument.for_pointers(check); })
    argument.for_pointers(check);
}

template <typename... P, typename... A>
cudaError_t run_kernel(const char* name, void (*kernel)(P...), const GridShape& shape,
                       cudaStream_t stream, A&&... arguments) {
  static_assert((std::is_trivially_copyable_v<P> && ...), "arguments travel as bytes");
  static_assert((!std::is_reference_v<P> && ...), "a kernel cannot take references");
  struct Call {
    void (*kernel)(P...);
    std::tuple<P...> arguments;
  } call{kernel, {static_cast<P>(std::forward<A>(arguments))...}};
  std::apply(
      [&](const auto&... argument) {
        int number = 0;
        (check_argument(name, ++number, argument), ...);
      },
      call.arguments);
  const auto body = [](void* packed) {
    auto& it = *static_cast<Call*>(packed);
    std::apply(it.kernel, it.arguments);
  };
  if (!is_any_stream_captured()) {
    run_grid(name, shape, body, &call);
    return cudaSuccess;
  }
  return in_stream_order(
      stream, [name, shape, body, call]() mutable { run_grid(name, shape, body, &call); });
}

}  // namespace densefield::emulation

inline void __syncthreads(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  densefield::emulation::sync_block(file, line);
}
inline void __syncwarp(unsigned mask) {
  densefield::emulation::warp_collective(mask, densefield::emulation::Collective::sync, 0, 0);
}
template <typename T>
T __shfl_sync(unsigned mask, T value, int lane) {
  namespace em = densefield::emulation;
  const int source = lane & (int{em::kWarp} - 1);
  return em::from_bits<T>(
      em::warp_collective(mask, em::Collective::shuffle, em::to_bits(value), source));
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int flip) {
  const auto lane =
      static_cast<int>(densefield::emulation::this_thread()->rank % densefield::emulation::kWarp);
  return __shfl_sync(mask, value, lane ^ flip);
}
// A lane without a partner gets its own value back.
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned distance) {
  const auto lane =
      static_cast<int>(densefield::emulation::this_thread()->rank % densefield::emulation::kWarp);
  const int source = lane - static_cast<int>(distance);
  return __shfl_sync(mask, value, source < 0 ? lane : source);
}

template <typename T>
T atomicAdd(T* place, std::type_identity_t<T> value) {
  return densefield::emulation::read_and_write(place, [=](T old) { return old + value; });
}
template <typename T>
T atomicMax(T* place, std::type_identity_t<T> value) {
  return densefield::emulation::read_and_write(place, [=](T old) { return std::max(old, value); });
}
template <typename T>
T atomicMin(T* place, std::type_identity_t<T> value) {
  return densefield::emulation::read_and_write(place, [=](T old) { return std::min(old, value); });
}
