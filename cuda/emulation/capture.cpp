#include "capture.h"

#include <cstdint>
#include <map>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include "block.h"
#include "device_memory.h"

namespace densefield::emulation {

std::atomic<int> num_captures = 0;

struct Piece {
  void* memory;
  std::size_t num_bytes;
};

// One capture, and then the graph that came of it.
struct Capture {
  Capture() = default;
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;
  ~Capture();

  cudaStream_t origin = nullptr;
  bool is_valid = true;
  std::vector<std::function<void()>> work;
  std::vector<Piece> memory;
  std::set<void*> in_use;             // freed neither by the graph's own work nor by its user
  std::set<cudaStream_t> not_joined;  // streams with work that the origin has not waited for
};

namespace {

struct Captures {
  std::mutex mutex;
  std::map<cudaStream_t, std::shared_ptr<Capture>> by_stream;
  std::map<void*, Capture*> memory;  // of all graphs
};
// Never destroyed: a graph may live as long as the process.
Captures& all() {
  static auto* captures = new Captures;
  return *captures;
}

// CUDA's default stream, which cannot be captured.
bool is_legacy(cudaStream_t stream) { return reinterpret_cast<std::uintptr_t>(stream) <= 1; }

// The callers of these hold the mutex.
std::shared_ptr<Capture> capture_of(cudaStream_t stream) {
  const auto found = all().by_stream.find(stream);
  return found == all().by_stream.end() ? nullptr : found->second;
}
cudaError_t spoil(Capture& capture, cudaError_t error) {
  capture.is_valid = false;
  return error;
}

}  // namespace

Capture::~Capture() {
  const std::lock_guard lock(all().mutex);
  for (const Piece& piece : memory) {
    all().memory.erase(piece.memory);
    if (!in_use.contains(piece.memory)) release_device(piece.memory);
  }
}

bool is_captured(cudaStream_t stream) {
  if (!is_any_stream_captured()) return false;
  const std::lock_guard lock(all().mutex);
  return capture_of(stream) != nullptr;
}

cudaError_t in_stream_order(cudaStream_t stream, std::function<void()> work) {
  {
    const std::lock_guard lock(all().mutex);
    if (const auto capture = capture_of(stream)) {
      if (!capture->is_valid) return cudaErrorStreamCaptureInvalidated;
      capture->work.push_back(std::move(work));
      if (stream != capture->origin) capture->not_joined.insert(stream);
      return cudaSuccess;
    }
  }
  work();
  return cudaSuccess;
}

cudaError_t forbid_capture(cudaStream_t stream) {
  if (!is_any_stream_captured()) return cudaSuccess;
  const std::lock_guard lock(all().mutex);
  const auto capture = capture_of(stream);
  return capture ? spoil(*capture, cudaErrorStreamCaptureUnsupported) : cudaSuccess;
}

cudaError_t allocate_for_graph(cudaStream_t stream, int device, std::size_t num_bytes, void** ptr) {
  *ptr = allocate_device(device, num_bytes);
  if (*ptr == nullptr) return cudaErrorMemoryAllocation;
  const std::lock_guard lock(all().mutex);
  const auto capture = capture_of(stream);
  capture->memory.push_back({*ptr, num_bytes});
  capture->in_use.insert(*ptr);
  all().memory[*ptr] = capture.get();
  return cudaSuccess;
}

cudaError_t free_in_graph(cudaStream_t stream, void* ptr) {
  const std::lock_guard lock(all().mutex);
  const auto capture = capture_of(stream);
  if (capture->in_use.erase(ptr) > 0) return cudaSuccess;
  return spoil(*capture, cudaErrorInvalidValue);
}

bool free_from_graph(void* ptr) {
  const std::lock_guard lock(all().mutex);
  const auto found = all().memory.find(ptr);
  if (found == all().memory.end()) return false;
  found->second->in_use.erase(ptr);
  return true;
}

CapturedMoment moment_of(cudaStream_t stream) {
  if (!is_any_stream_captured()) return {};
  const std::lock_guard lock(all().mutex);
  return {capture_of(stream), stream};
}

cudaError_t wait_for(const CapturedMoment& moment, cudaStream_t stream) {
  if (!is_any_stream_captured()) return cudaSuccess;
  const std::lock_guard lock(all().mutex);
  const auto own = capture_of(stream);
  // Work outside of a graph cannot come before work within.
  if (!moment.capture) return own ? spoil(*own, cudaErrorStreamCaptureIsolation) : cudaSuccess;
  Capture& capture = *moment.capture;
  if (is_legacy(stream)) return spoil(capture, cudaErrorStreamCaptureImplicit);
  if (own && own != moment.capture) return spoil(capture, cudaErrorStreamCaptureMerge);
  if (!own) all().by_stream[stream] = moment.capture;
  if (stream != capture.origin) capture.not_joined.insert(stream);
  capture.not_joined.erase(moment.stream);
  return cudaSuccess;
}

}  // namespace densefield::emulation

using namespace densefield::emulation;

struct EmulatedGraph {
  std::shared_ptr<Capture> capture;
};
struct EmulatedGraphExec {
  std::shared_ptr<Capture> capture;
};

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (is_legacy(stream)) return cudaErrorStreamCaptureUnsupported;
  const std::lock_guard lock(all().mutex);
  if (const auto capture = capture_of(stream))
    return spoil(*capture, cudaErrorStreamCaptureUnsupported);
  const auto capture = std::make_shared<Capture>();
  capture->origin = stream;
  all().by_stream[stream] = capture;
  ++num_captures;
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = nullptr;
  std::shared_ptr<Capture> capture;  // outlives the lock, which its destructor takes
  const std::lock_guard lock(all().mutex);
  capture = capture_of(stream);
  if (!capture) return cudaErrorInvalidValue;
  if (capture->origin != stream) return cudaErrorStreamCaptureUnmatched;
  std::erase_if(all().by_stream, [&](const auto& entry) { return entry.second == capture; });
  --num_captures;
  if (!capture->is_valid) return cudaErrorStreamCaptureInvalidated;
  if (!capture->not_joined.empty()) return cudaErrorStreamCaptureUnjoined;
  *graph = new EmulatedGraph{capture};
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  *status = is_captured(stream) ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long) {
  *executable = new EmulatedGraphExec{graph->capture};
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  if (const cudaError_t error = forbid_capture(stream); error != cudaSuccess) return error;
  {
    const DeviceMemoryOpen open;
    for (const Piece& piece : executable->capture->memory)
      fill_undefined(piece.memory, piece.num_bytes);
  }
  for (const auto& work : executable->capture->work) work();
  return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, std::size_t* count) {
  if (nodes != nullptr) return cudaErrorInvalidValue;  // there are none to hand out
  *count = graph->capture->work.size();
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  return cudaSuccess;
}
