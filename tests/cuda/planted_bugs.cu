// Kernels with one planted fault each, to show that the emulator and the sanitizers catch what
// they should. `planted_bugs NAME` runs one and prints "right", "wrong" or the error; what must
// come out of which build stands in cmake/emulation.cmake.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "cuda/launch.cuh"
#include "cuda/memory.cuh"

namespace densefield::cuda {
namespace {

constexpr int kThreads = 64;
constexpr int kBlocks = 5;
constexpr int kCount = kThreads * kBlocks - 3;

enum class Fault {
  none,
  missing_barrier,
  divergent_barrier,
  static_array_too_short,
  dynamic_array_too_short,
  write_behind_the_end,
  unwritten_shared,
};

// Each item plus its left neighbour in the block, by way of shared memory.
template <Fault fault>
__global__ void sum_neighbours_kernel(const float* in,  // [count]
                                      int64_t count,
                                      float* out) {  // [count]
  DF_SHARED(float, fixed, fault == Fault::static_array_too_short ? kThreads - 1 : kThreads);
  DF_DYNAMIC_SHARED(float, dynamic);
  float* tile = fault == Fault::dynamic_array_too_short ? dynamic : fixed;
  const int64_t i = item_of_thread();
  const auto t = static_cast<int>(threadIdx.x);
  if (fault != Fault::unwritten_shared || t != kThreads / 2) tile[t] = i < count ? in[i] : 0.0f;
  if (fault == Fault::divergent_barrier) {
    if (t < kThreads / 2) __syncthreads();
  } else if (fault != Fault::missing_barrier) {
    __syncthreads();
  }
  const float left = t > 0 ? tile[t - 1] : 0.0f;
  const int64_t end = fault == Fault::write_behind_the_end ? count + 1 : count;
  if (i < end) out[i] = tile[t] + left;
}

// The sum of all items; the warps' sums by shuffles, then one atomic each.
template <bool is_atomic, bool has_right_mask>
__global__ void sum_kernel(const float* in,  // [count]
                           int64_t count,
                           float* sum) {  // [1]
  const int64_t i = item_of_thread();
  float value = i < count ? in[i] : 0.0f;
  const unsigned mask = ~0u;
  if (has_right_mask || threadIdx.x % kWarp < 20)
    for (int flip = kWarp / 2; flip > 0; flip /= 2) value += __shfl_xor_sync(mask, value, flip);
  if (threadIdx.x % kWarp != 0) return;
  if (is_atomic)
    atomicAdd(sum, value);
  else
    *sum += value;
}

// Sums of the warps through shared memory, with or without a barrier of the warp.
template <bool has_barrier>
__global__ void warp_sum_kernel(const float* in,  // [count]
                                int64_t count,
                                float* sum) {  // [1]
  DF_SHARED(float, tile, kThreads);
  const int64_t i = item_of_thread();
  const auto t = static_cast<int>(threadIdx.x);
  tile[t] = i < count ? in[i] : 0.0f;
  if (has_barrier) __syncwarp(~0u);
  float value = 0.0f;
  if (t % kWarp == 0)
    for (int k = 0; k < kWarp; ++k) value += tile[t + k];
  if (t % kWarp == 0) atomicAdd(sum, value);
}

// Which thread comes last decides the result: what no kernel of the library may do.
__global__ void last_writer_kernel(float* out) {  // [1]
  const float before = atomicAdd(out, 0.0f);
  atomicAdd(out, static_cast<float>(threadIdx.x) - before);
}

class Bench {
 public:
  Bench() : memory_({0, nullptr, new_pool()}) {
    for (int i = 0; i < kCount; ++i) in_.push_back(static_cast<float>(i % 7));
    device_in_ = upload(memory_, in_);
  }

  template <typename Kernel>
  bool sums_neighbours(Kernel kernel, std::size_t shared_bytes) {
    Buffer<float> out(memory_, kCount);
    launch("sum_neighbours_kernel", kernel, shape(shared_bytes), memory_.stream(),
           device_in_.data(), int64_t{kCount}, out.data());
    std::vector<float> result(kCount);
    download(memory_, out.data(), kCount, result.data());
    for (int i = 0; i < kCount; ++i) {
      const auto k = static_cast<std::size_t>(i);
      const float expected = in_[k] + (i % kThreads > 0 ? in_[k - 1] : 0.0f);
      if (result[k] != expected) return false;
    }
    return true;
  }

  template <typename Kernel>
  bool sums(Kernel kernel) {
    Buffer<float> sum(memory_, 1);
    clear(memory_, sum);
    launch("sum_kernel", kernel, shape(0), memory_.stream(), device_in_.data(), int64_t{kCount},
           sum.data());
    float result = 0, expected = 0;
    download(memory_, sum.data(), 1, &result);
    for (float x : in_) expected += x;  // whole numbers: any order gives these bits
    return result == expected;
  }

  bool has_last_writer() {
    Buffer<float> out(memory_, 1);
    clear(memory_, out);
    launch("last_writer_kernel", last_writer_kernel, {dim3(1), dim3(kThreads)}, memory_.stream(),
           out.data());
    float result = 0;
    download(memory_, out.data(), 1, &result);
    return result == kThreads - 1;
  }

  bool passes_a_host_pointer() {
    Buffer<float> out(memory_, kCount);
    launch("sum_neighbours_kernel", sum_neighbours_kernel<Fault::none>, shape(0), memory_.stream(),
           in_.data(), int64_t{kCount}, out.data());
    return true;
  }
  bool reads_on_the_host() { return device_in_[0] == in_[0]; }
  bool launches_too_many_threads() {
    Buffer<float> out(memory_, kCount);
    launch("last_writer_kernel", last_writer_kernel, {dim3(1), dim3(2048)}, memory_.stream(),
           out.data());
    return true;
  }

 private:
  static cudaMemPool_t new_pool() {
    cudaMemPoolProps properties{};
    cudaMemPool_t pool = nullptr;
    check(cudaMemPoolCreate(&pool, &properties), "making a memory pool");
    return pool;
  }
  static LaunchShape shape(std::size_t shared_bytes) {
    return {dim3(kBlocks), dim3(kThreads), shared_bytes};
  }

  DeviceMemory memory_;
  std::vector<float> in_;
  Buffer<float> device_in_;
};

bool run(const std::string& name) {
  Bench bench;
  constexpr std::size_t kTooShort = (kThreads - 1) * sizeof(float);
  const std::map<std::string, std::function<bool()>> cases = {
      {"none",
       [&] {
         return bench.sums_neighbours(sum_neighbours_kernel<Fault::none>, 0) &&
                bench.sums(sum_kernel<true, true>) && bench.sums(warp_sum_kernel<true>);
       }},
      {"missing_barrier",
       [&] { return bench.sums_neighbours(sum_neighbours_kernel<Fault::missing_barrier>, 0); }},
      {"divergent_barrier",
       [&] { return bench.sums_neighbours(sum_neighbours_kernel<Fault::divergent_barrier>, 0); }},
      {"static_array_too_short",
       [&] {
         return bench.sums_neighbours(sum_neighbours_kernel<Fault::static_array_too_short>, 0);
       }},
      {"dynamic_array_too_short",
       [&] {
         return bench.sums_neighbours(sum_neighbours_kernel<Fault::dynamic_array_too_short>,
                                      kTooShort);
       }},
      {"write_behind_the_end",
       [&] {
         return bench.sums_neighbours(sum_neighbours_kernel<Fault::write_behind_the_end>, 0);
       }},
      {"unwritten_shared",
       [&] { return bench.sums_neighbours(sum_neighbours_kernel<Fault::unwritten_shared>, 0); }},
      {"no_atomic", [&] { return bench.sums(sum_kernel<false, true>); }},
      {"wrong_mask", [&] { return bench.sums(sum_kernel<true, false>); }},
      {"missing_warp_barrier", [&] { return bench.sums(warp_sum_kernel<false>); }},
      {"order_dependence", [&] { return bench.has_last_writer(); }},
      {"host_pointer", [&] { return bench.passes_a_host_pointer(); }},
      {"device_pointer_on_the_host", [&] { return bench.reads_on_the_host(); }},
      {"too_many_threads", [&] { return bench.launches_too_many_threads(); }},
  };
  return cases.at(name)();
}

}  // namespace
}  // namespace densefield::cuda

int main(int argc, char** argv) {
  if (argc != 2) {
    std::printf("usage: planted_bugs NAME\n");
    return 2;
  }
  try {
    const bool is_right = densefield::cuda::run(argv[1]);
    std::printf("%s\n", is_right ? "right" : "wrong");
    return is_right ? 0 : 1;
  } catch (const densefield::Error& error) {
    std::printf("error: %s\n", error.what());
    return 1;
  }
}
