// Device memory on one stream, and the way between it and the caller's arrays.
#pragma once

#include <cstdint>
#include <mutex>
#include <unordered_set>
#include <vector>

#include "check.cuh"
#include "densefield/buffer.h"
#include "densefield/view.h"

namespace densefield::cuda {

// Everything that one backend does happens in the order of this stream.
struct Queue {
  int device;
  cudaStream_t stream;
  cudaMemPool_t pool;  // where its memory comes from
};

// Memory that is taken and given back in the order of the stream, from a pool: after the first
// update of an inference it costs no call of the system.
class DeviceMemory final : public Memory {
 public:
  explicit DeviceMemory(Queue queue) : queue_(queue) {}

  const Queue& queue() const { return queue_; }
  // For a launch or copy that follows: the stream's device is made the calling thread's.
  cudaStream_t stream() const {
    check(cudaSetDevice(queue_.device), "choosing the device");
    return queue_.stream;
  }
  void* allocate(std::size_t num_bytes) override;
  // While the stream is recorded, memory from before stays taken until that is over: a graph can
  // free only what is its own.
  void release(void* ptr) noexcept override;
  // Waits until the device has done all that was asked of it.
  void wait() const { check(cudaStreamSynchronize(queue_.stream), "waiting for the stream"); }

 private:
  // Whether the stream's work is recorded for a graph instead of done.
  bool is_recorded() const noexcept;
  void release_late() noexcept;

  Queue queue_;
  std::mutex mutex_;                     // of the two:
  std::unordered_set<void*> of_graphs_;  // allocated while the stream was recorded
  std::vector<void*> late_;              // to be freed when it no longer is
};

// The device whose memory it is; -1 for the host's, which kernels cannot read.
int device_of(const void* pointer);

template <typename T>
void upload(const DeviceMemory& memory, const T* from, int64_t count, T* to) {
  if (count == 0) return;
  check(cudaMemcpyAsync(to, from, static_cast<std::size_t>(count) * sizeof(T),
                        cudaMemcpyHostToDevice, memory.stream()),
        "copying to the device");
}
// The host's memory holds the values when it returns.
template <typename T>
void download(const DeviceMemory& memory, const T* from, int64_t count, T* to) {
  if (count == 0) return;
  check(cudaMemcpyAsync(to, from, static_cast<std::size_t>(count) * sizeof(T),
                        cudaMemcpyDeviceToHost, memory.stream()),
        "copying from the device");
  memory.wait();
}
template <typename T>
Buffer<T> upload(DeviceMemory& memory, const std::vector<T>& from) {
  Buffer<T> buffer(memory, static_cast<int64_t>(from.size()));
  upload(memory, from.data(), buffer.size(), buffer.data());
  return buffer;
}
template <typename T>
void clear(const DeviceMemory& memory, Buffer<T>& buffer) {
  if (buffer.is_empty()) return;
  check(cudaMemsetAsync(buffer.data(), 0, static_cast<std::size_t>(buffer.num_bytes()),
                        memory.stream()),
        "clearing memory");
}

// A view that kernels can read: the caller's own if it lies on the device, else a copy.
template <typename T>
struct DeviceView {
  NodeView<const T> view;
  Buffer<T> copy;
};
template <typename T>
DeviceView<T> bring_to_device(DeviceMemory& memory, NodeView<const T> from);

// Copies [channels, nodes] values that lie on the device to a view on the host.
template <typename T>
void bring_to_host(const DeviceMemory& memory, const T* from, NodeView<T> to);

// Calls write(view) with the caller's own array if it lies on the device, else with planes that
// are then copied to it.
template <typename T, typename Write>
void write_on_device(DeviceMemory& memory, const NodeView<T>& to, Write write) {
  if (device_of(to.data) >= 0) return write(to);
  Buffer<T> planes(memory, to.num_nodes * to.num_channels);
  write(NodeView<T>{planes.data(), to.num_nodes, to.num_channels, 1, to.num_nodes});
  bring_to_host<T>(memory, planes.data(), to);
}

}  // namespace densefield::cuda
