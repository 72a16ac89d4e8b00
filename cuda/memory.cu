#include <algorithm>
#include <string>

#include "memory.cuh"

namespace densefield::cuda {

bool DeviceMemory::is_recorded() const noexcept {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  if (cudaStreamIsCapturing(queue_.stream, &status) == cudaSuccess)
    return status == cudaStreamCaptureStatusActive;
  cudaGetLastError();  // CUDA's default stream beside one that is recorded: it cannot be itself
  return false;
}

void DeviceMemory::release_late() noexcept {
  const std::lock_guard lock(mutex_);
  for (void* ptr : late_) cudaFreeAsync(ptr, queue_.stream);
  late_.clear();
}

void* DeviceMemory::allocate(std::size_t num_bytes) {
  check(cudaSetDevice(queue_.device), "choosing the device");
  const bool is_of_graph = is_recorded();
  if (!is_of_graph) release_late();
  void* ptr = nullptr;
  const cudaError_t error = cudaMallocFromPoolAsync(&ptr, std::max<std::size_t>(num_bytes, 1),
                                                    queue_.pool, queue_.stream);
  if (error == cudaSuccess && is_of_graph) {
    const std::lock_guard lock(mutex_);
    of_graphs_.insert(ptr);
  }
  if (error == cudaSuccess) return ptr;
  cudaGetLastError();  // takes the error back: the device stays usable
  if (error != cudaErrorMemoryAllocation) check(error, "allocating memory");
  std::size_t num_free = 0, total = 0;
  cudaMemGetInfo(&num_free, &total);
  throw Error(Error::Kind::memory, "not enough memory on the device: " + std::to_string(num_bytes) +
                                       " bytes are needed at once and " + std::to_string(num_free) +
                                       " of " + std::to_string(total) +
                                       " are free; split the input or use float32");
}

void DeviceMemory::release(void* ptr) noexcept {
  int before = 0;
  cudaGetDevice(&before);
  cudaSetDevice(queue_.device);
  const bool waits_for_its_end = is_recorded();
  const std::lock_guard lock(mutex_);
  if (of_graphs_.erase(ptr) == 0 && waits_for_its_end)
    late_.push_back(ptr);
  else
    cudaFreeAsync(ptr, queue_.stream);
  cudaSetDevice(before);  // a caller's, who did not ask for this
}

int device_of(const void* pointer) {
  cudaPointerAttributes attributes{};
  if (cudaPointerGetAttributes(&attributes, pointer) != cudaSuccess) {
    cudaGetLastError();
    return -1;
  }
  const bool is_readable =
      attributes.type == cudaMemoryTypeDevice || attributes.type == cudaMemoryTypeManaged;
  return is_readable ? attributes.device : -1;
}

namespace {

template <typename T>
bool is_plain(const NodeView<T>& view) {
  return view.node_stride == 1 || view.num_nodes <= 1;
}

}  // namespace

template <typename T>
DeviceView<T> bring_to_device(DeviceMemory& memory, NodeView<const T> from) {
  const int64_t nodes = from.num_nodes, channels = from.num_channels;
  if (nodes * channels == 0) return {{nullptr, nodes, channels, 1, nodes}, {}};
  if (device_of(from.data) >= 0) return {from, {}};
  DeviceView<T> result;
  result.copy = Buffer<T>(memory, nodes * channels);
  result.view = {result.copy.data(), nodes, channels, 1, nodes};
  T* to = result.copy.data();
  if (is_plain(from) && (from.channel_stride == nodes || channels == 1)) {
    upload(memory, from.data, nodes * channels, to);
  } else if (is_plain(from)) {
    for (int64_t c = 0; c < channels; ++c) upload(memory, &from.at(c, 0), nodes, to + c * nodes);
  } else {
    std::vector<T> packed(static_cast<std::size_t>(nodes));
    for (int64_t c = 0; c < channels; ++c) {
      for (int64_t i = 0; i < nodes; ++i) packed[static_cast<std::size_t>(i)] = from.at(c, i);
      upload(memory, packed.data(), nodes, to + c * nodes);
      memory.wait();  // before `packed` is written again
    }
  }
  return result;
}

template <typename T>
void bring_to_host(const DeviceMemory& memory, const T* from, NodeView<T> to) {
  const int64_t nodes = to.num_nodes, channels = to.num_channels;
  if (nodes * channels == 0) return;
  if (is_plain(to) && (to.channel_stride == nodes || channels == 1))
    return download(memory, from, nodes * channels, to.data);
  std::vector<T> plane(static_cast<std::size_t>(nodes));
  for (int64_t c = 0; c < channels; ++c) {
    download(memory, from + c * nodes, nodes, plane.data());
    for (int64_t i = 0; i < nodes; ++i) to.at(c, i) = plane[static_cast<std::size_t>(i)];
  }
}

#define DF_INSTANTIATE(T)                                                   \
  template DeviceView<T> bring_to_device(DeviceMemory&, NodeView<const T>); \
  template void bring_to_host(const DeviceMemory&, const T*, NodeView<T>);
DF_INSTANTIATE(float)
DF_INSTANTIATE(double)

}  // namespace densefield::cuda
