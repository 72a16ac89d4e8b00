#include "runtime_api.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>

#include "capture.h"
#include "device_memory.h"
#include "settings.h"

using densefield::emulation::DeviceMemoryOpen;
using densefield::emulation::is_device_pointer;
using densefield::emulation::settings;

namespace {

thread_local int current_device = 0;

// Streams and pools are numbers. CUDA's own: 0 and 1 are the default stream, 2 a thread's.
constexpr std::uintptr_t kFirstStream = 0x10;
std::atomic<std::uintptr_t> next_stream = kFirstStream;

bool is_stream(cudaStream_t stream) {
  const auto number = reinterpret_cast<std::uintptr_t>(stream);
  return number <= 2 || (number >= kFirstStream && number < next_stream);
}
bool is_device(int device) { return device >= 0 && device < settings().num_devices; }

}  // namespace

namespace em = densefield::emulation;

struct EmulatedEvent {
  std::chrono::steady_clock::time_point time;
  em::CapturedMoment moment;
};

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess: return "no error";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorNoDevice: return "no CUDA-capable device is detected";
    case cudaErrorInsufficientDriver: return "CUDA driver version is insufficient";
    case cudaErrorStreamCaptureUnsupported:
      return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated:
      return "operation failed due to a previous error during capture";
    case cudaErrorStreamCaptureMerge: return "operation would result in a merge of captures";
    case cudaErrorStreamCaptureUnmatched: return "capture was not initiated in this stream";
    case cudaErrorStreamCaptureUnjoined: return "capturing stream has unjoined work";
    case cudaErrorStreamCaptureIsolation:
      return "dependency created on uncaptured work in another stream";
    case cudaErrorStreamCaptureImplicit:
      return "operation would make the legacy stream depend on a capturing blocking stream";
    case cudaErrorCapturedEvent:
      return "operation not permitted on an event last recorded in a capturing stream";
    default: return "invalid argument";
  }
}
cudaError_t cudaGetLastError() { return cudaSuccess; }
cudaError_t cudaGetDeviceCount(int* count) {
  *count = settings().num_devices;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {};
  std::snprintf(properties->name, sizeof properties->name, "emulated device");
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) { return cudaDriverGetVersion(version); }
cudaError_t cudaGetDevice(int* device) {
  *device = current_device;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  if (!is_device(device)) return cudaErrorInvalidValue;
  current_device = device;
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = reinterpret_cast<cudaStream_t>(next_stream++);
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  return is_stream(stream) ? em::forbid_capture(stream) : cudaErrorInvalidValue;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new EmulatedEvent{};
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  if (!is_stream(stream)) return cudaErrorInvalidValue;
  *event = {std::chrono::steady_clock::now(), em::moment_of(stream)};
  return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  return is_stream(stream) ? em::wait_for(event->moment, stream) : cudaErrorInvalidValue;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  return event->moment.capture ? cudaErrorCapturedEvent : cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t earlier, cudaEvent_t later) {
  if (earlier->moment.capture || later->moment.capture) return cudaErrorCapturedEvent;
  *milliseconds = std::chrono::duration<float, std::milli>(later->time - earlier->time).count();
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}

cudaError_t cudaMemPoolCreate(cudaMemPool_t* pool, const cudaMemPoolProps* properties) {
  if (!is_device(properties->location.id)) return cudaErrorInvalidValue;
  *pool = reinterpret_cast<cudaMemPool_t>(static_cast<std::uintptr_t>(properties->location.id) + 1);
  return cudaSuccess;
}
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) { return cudaSuccess; }

cudaError_t cudaMallocFromPoolAsync(void** memory, std::size_t num_bytes, cudaMemPool_t pool,
                                    cudaStream_t stream) {
  const int device = static_cast<int>(reinterpret_cast<std::uintptr_t>(pool)) - 1;
  if (!is_device(device)) return cudaErrorInvalidValue;
  if (em::is_captured(stream)) return em::allocate_for_graph(stream, device, num_bytes, memory);
  *memory = densefield::emulation::allocate_device(device, num_bytes);
  return *memory != nullptr ? cudaSuccess : cudaErrorMemoryAllocation;
}
cudaError_t cudaFreeAsync(void* memory, cudaStream_t stream) {
  if (em::is_captured(stream)) return em::free_in_graph(stream, memory);
  if (em::free_from_graph(memory)) return cudaSuccess;
  return densefield::emulation::release_device(memory) ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t num_bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  const bool from_device = kind != cudaMemcpyHostToDevice;
  const bool to_device = kind != cudaMemcpyDeviceToHost;
  if (num_bytes > 0 &&
      (is_device_pointer(from) != from_device || is_device_pointer(to) != to_device))
    return cudaErrorInvalidValue;
  // The host's memory is pageable: by the time a graph runs it may hold something else.
  if (kind != cudaMemcpyDeviceToDevice)
    if (const cudaError_t error = em::forbid_capture(stream); error != cudaSuccess) return error;
  return em::in_stream_order(stream, [=] {
    const DeviceMemoryOpen open;
    std::memcpy(to, from, num_bytes);
  });
}
cudaError_t cudaMemsetAsync(void* memory, int value, std::size_t num_bytes, cudaStream_t stream) {
  if (!is_device_pointer(memory)) return cudaErrorInvalidValue;
  return em::in_stream_order(stream, [=] {
    const DeviceMemoryOpen open;
    std::memset(memory, value, num_bytes);
  });
}

cudaError_t cudaMemGetInfo(std::size_t* num_free, std::size_t* total) {
  *total = settings().device_bytes;
  const std::size_t used = densefield::emulation::device_bytes_in_use(current_device);
  *num_free = used < *total ? *total - used : 0;
  return cudaSuccess;
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  attributes->device = densefield::emulation::device_of_pointer(pointer);
  attributes->type = attributes->device >= 0 ? cudaMemoryTypeDevice : cudaMemoryTypeUnregistered;
  return cudaSuccess;
}
