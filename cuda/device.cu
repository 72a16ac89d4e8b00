#include <cstdint>
#include <map>
#include <mutex>
#include <string>

#include "device.cuh"

namespace densefield::cuda {
namespace {

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

// The run time calls a missing driver "insufficient" (error 35) too.
std::string find_problem() {
  int driver = 0, runtime = 0, count = 0;
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  if (driver == 0) return "no NVIDIA driver was found (580 or newer is needed)";
  const cudaError_t error = cudaGetDeviceCount(&count);
  cudaGetLastError();
  if (error == cudaErrorInsufficientDriver)
    return "the NVIDIA driver is for CUDA " + version_text(driver) + ", this library needs CUDA " +
           version_text(runtime) + " (driver 580 or newer)";
  if (error == cudaErrorNoDevice || (error == cudaSuccess && count == 0))
    return "there is an NVIDIA driver, but no device that it lets this process use; look at "
           "nvidia-smi and CUDA_VISIBLE_DEVICES";
  if (error != cudaSuccess) return std::string("CUDA does not start: ") + cudaGetErrorString(error);
  return "";
}

}  // namespace

const char* device_problem() {
  static const std::string* problem = new std::string(find_problem());
  return problem->empty() ? nullptr : problem->c_str();
}

const char* device_name(int device) {
  static std::mutex mutex;
  static auto* names = new std::map<int, std::string>;
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || device < 0 || device >= count) return "";
  const std::lock_guard lock(mutex);
  std::string& name = (*names)[device];
  cudaDeviceProp properties{};
  if (name.empty() && cudaGetDeviceProperties(&properties, device) == cudaSuccess)
    name = properties.name;
  return name.c_str();
}

int choose_device(int device) {
  int before = 0;
  if (device_problem() != nullptr || cudaGetDevice(&before) != cudaSuccess) return -1;
  if (device >= 0) cudaSetDevice(device);
  return before;
}

cudaStream_t own_stream(int device) {
  static std::mutex mutex;
  static auto* streams = new std::map<int, cudaStream_t>;
  const std::lock_guard lock(mutex);
  const auto known = streams->find(device);
  if (known != streams->end()) return known->second;
  cudaStream_t stream = nullptr;
  check(cudaSetDevice(device), "choosing the device");
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "making a stream");
  return (*streams)[device] = stream;
}

cudaMemPool_t own_pool(int device) {
  static std::mutex mutex;
  static auto* pools = new std::map<int, cudaMemPool_t>;
  const std::lock_guard lock(mutex);
  const auto known = pools->find(device);
  if (known != pools->end()) return known->second;
  cudaMemPoolProps properties{};
  properties.allocType = cudaMemAllocationTypePinned;
  properties.location.type = cudaMemLocationTypeDevice;
  properties.location.id = device;
  cudaMemPool_t pool = nullptr;
  check(cudaMemPoolCreate(&pool, &properties), "making a memory pool");
  uint64_t most_kept = uint64_t{1} << 30;  // a 500 x 375 image with 21 labels needs 0.1 GB
  check(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &most_kept),
        "limiting the memory pool");
  return (*pools)[device] = pool;
}

}  // namespace densefield::cuda
