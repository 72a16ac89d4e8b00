// A grid: its blocks, spread over host threads.
#include <algorithm>
#include <cstdio>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "block.h"
#include "densefield/error.h"
#include "device_memory.h"
#include "sanitizers.h"
#include "settings.h"
#include "shared_memory.h"

namespace densefield::emulation {

thread_local ThreadIds* current_ids = nullptr;
thread_local GridShape* current_shape = nullptr;
thread_local int switch_chance = 0;
#ifdef DF_EMULATION_TSAN
ThreadIds* this_thread() { return current_ids; }
GridShape* this_grid() { return current_shape; }
#endif

void Launch::set_error(const char* text) {
  tell_release(&end);
  if (has_failed.exchange(true)) return;
  std::snprintf(error, sizeof error, "%s", text);
}

void sync_block(const char* file, int line) { this_worker->sync_block(file, line); }
uint64_t warp_collective(uint32_t mask, Collective kind, uint64_t value, int source_lane) {
  return this_worker->warp_collective(mask, kind, value, source_lane);
}
void* shared_array(int declaration, std::size_t num_bytes) {
  return this_worker->shared_array(declaration, num_bytes);
}
void fail(const char* what) { this_worker->fail(what); }
void maybe_switch_slow() {
  if (switch_chance != 0) this_worker->maybe_switch();
}

int new_shared_declaration() {
  static std::atomic<int> count{0};
  return count++;
}

void fence() {
  static char everywhere = 0;
  tell_release(&everywhere);
  tell_acquire(&everywhere);
  std::atomic_thread_fence(std::memory_order_seq_cst);
}

namespace {

// The limits of all devices that this library is compiled for.
void check_shape(const char* name, const GridShape& shape) {
  constexpr unsigned kMaxGridX = 2147483647, kMaxGridYZ = 65535, kMaxBlockZ = 64;
  const dim3 grid = shape.grid, block = shape.block;
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  const bool is_legal = grid.x > 0 && grid.y > 0 && grid.z > 0 && threads > 0 &&
                        threads <= kMaxBlockThreads && block.z <= kMaxBlockZ &&
                        grid.x <= kMaxGridX && grid.y <= kMaxGridYZ && grid.z <= kMaxGridYZ &&
                        shape.shared_bytes <= kMaxSharedBytes;
  if (!is_legal)
    throw Error(Error::Kind::runtime, std::string(name) + ": invalid launch configuration");
}

// Workers and their stacks are kept from kernel to kernel; one kernel runs at a time. Never
// destroyed: a thread may launch while the process ends.
struct Workers {
  std::mutex mutex;
  std::vector<std::unique_ptr<Worker>> workers;
};
Workers& all_workers() {
  static Workers* workers = new Workers;
  return *workers;
}

// A second host thread is not worth its start for fewer threads than this.
constexpr uint64_t kThreadsPerWorker = 2048;

}  // namespace

void run_grid(const char* name, const GridShape& shape, void (*body)(void*), void* arguments) {
  if (current_ids != nullptr)
    throw Error(Error::Kind::runtime, std::string(name) + ": launched by a kernel");
  check_shape(name, shape);
  Launch launch;
  launch.shape = shape;
  launch.body = body;
  launch.arguments = arguments;
  launch.num_blocks = uint64_t{shape.grid.x} * shape.grid.y * shape.grid.z;
  const uint64_t threads = launch.num_blocks * shape.block.x * shape.block.y * shape.block.z;
  const uint64_t worth = std::max<uint64_t>(1, threads / kThreadsPerWorker);
  const uint64_t wanted = std::min(
      {static_cast<uint64_t>(std::max(1, settings().num_workers)), launch.num_blocks, worth});
  Workers& pool = all_workers();
  const std::lock_guard lock(pool.mutex);
  while (pool.workers.size() < wanted) pool.workers.push_back(std::make_unique<Worker>());
  const DeviceMemoryOpen open;
  tell_release(&launch.start);
  std::vector<std::thread> others;
  for (uint64_t i = 1; i < wanted; ++i)
    others.emplace_back([&launch, worker = pool.workers[i].get()] { worker->run(launch); });
  pool.workers[0]->run(launch);
  for (std::thread& other : others) other.join();
  tell_acquire(&launch.end);
  unmap_all(launch);
  if (launch.has_failed) throw Error(Error::Kind::runtime, std::string(name) + ": " + launch.error);
}

}  // namespace densefield::emulation
