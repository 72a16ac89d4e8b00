// Streams whose work is recorded instead of done: CUDA's stream capture and graphs, with the
// errors of calls that a capture forbids.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>

#include "runtime_api.h"

namespace densefield::emulation {

// A quick no: all but a few tests run without.
extern std::atomic<int> num_captures;
inline bool is_any_stream_captured() { return num_captures.load(std::memory_order_relaxed) > 0; }

bool is_captured(cudaStream_t stream);

// Does the work, or keeps it if the stream is captured.
cudaError_t in_stream_order(cudaStream_t stream, std::function<void()> work);
// The error of a call that cannot be captured, if the stream is: the capture is spoiled.
cudaError_t forbid_capture(cudaStream_t stream);

// Memory of a graph: taken while its stream is captured, filled with what nobody wrote whenever
// the graph starts. What the graph frees itself goes with it, the rest is its user's to free.
cudaError_t allocate_for_graph(cudaStream_t stream, int device, std::size_t num_bytes, void** ptr);
cudaError_t free_in_graph(cudaStream_t stream, void* ptr);
// False if it is no memory of a graph.
bool free_from_graph(void* ptr);

struct Capture;
// What an event that was recorded on a captured stream stands for.
struct CapturedMoment {
  std::shared_ptr<Capture> capture;  // none: the stream was not captured
  cudaStream_t stream = nullptr;
};
CapturedMoment moment_of(cudaStream_t stream);
// The stream waits for the moment; a stream that was not captured becomes a part of the capture.
cudaError_t wait_for(const CapturedMoment& moment, cudaStream_t stream);

}  // namespace densefield::emulation
