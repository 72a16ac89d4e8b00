#include "recording.cuh"

namespace densefield::cuda {
namespace {

class CudaEvent final : public DeviceEvent {
 public:
  explicit CudaEvent(const Queue& queue) : device_(queue.device) {
    check(cudaSetDevice(device_), "choosing the device");
    check(cudaEventCreateWithFlags(&event_, 0), "making an event");
    const cudaError_t recorded = cudaEventRecord(event_, queue.stream);
    if (recorded == cudaSuccess) return;
    cudaEventDestroy(event_);
    check(recorded, "recording an event");
  }
  CudaEvent(const CudaEvent&) = delete;
  CudaEvent& operator=(const CudaEvent&) = delete;
  ~CudaEvent() override { cudaEventDestroy(event_); }

  double milliseconds_since(const DeviceEvent& earlier) const override {
    check(cudaSetDevice(device_), "choosing the device");
    check(cudaEventSynchronize(event_), "waiting for an event");
    float milliseconds = 0;
    const cudaEvent_t first = static_cast<const CudaEvent&>(earlier).event_;
    check(cudaEventElapsedTime(&milliseconds, first, event_), "reading the time of an event");
    return double{milliseconds};
  }

 private:
  int device_;
  cudaEvent_t event_ = nullptr;
};

class CudaGraph final : public DeviceGraph {
 public:
  // Results that were allocated on the way and never freed are given back when it starts again.
  CudaGraph(const Queue& queue, cudaGraph_t graph) : queue_(queue) {
    check(cudaGraphGetNodes(graph, nullptr, &num_steps_), "counting what was recorded");
    check(cudaGraphInstantiate(&executable_, graph, cudaGraphInstantiateFlagAutoFreeOnLaunch),
          "making a graph");
  }
  CudaGraph(const CudaGraph&) = delete;
  CudaGraph& operator=(const CudaGraph&) = delete;
  ~CudaGraph() override { cudaGraphExecDestroy(executable_); }

  void launch() const override {
    check(cudaSetDevice(queue_.device), "choosing the device");
    check(cudaGraphLaunch(executable_, queue_.stream), "launching a graph");
  }
  int64_t num_steps() const override { return static_cast<int64_t>(num_steps_); }

 private:
  Queue queue_;
  cudaGraphExec_t executable_ = nullptr;
  std::size_t num_steps_ = 0;
};

}  // namespace

std::unique_ptr<DeviceEvent> record_event(const Queue& queue) {
  return std::make_unique<CudaEvent>(queue);
}

void begin_recording(const Queue& queue) {
  check(cudaSetDevice(queue.device), "choosing the device");
  check(cudaStreamBeginCapture(queue.stream, cudaStreamCaptureModeThreadLocal),
        "recording a stream");
}

std::unique_ptr<DeviceGraph> end_recording(const Queue& queue) {
  cudaGraph_t graph = nullptr;
  const cudaError_t ended = cudaStreamEndCapture(queue.stream, &graph);
  if (ended != cudaSuccess) cudaGetLastError();  // takes the error back: the stream stays usable
  check(ended, "recording a stream");
  struct Owner {
    cudaGraph_t graph;
    ~Owner() { cudaGraphDestroy(graph); }
  } const owner{graph};
  return std::make_unique<CudaGraph>(queue, graph);
}

}  // namespace densefield::cuda
