// One block of a grid: its threads, taken in turn by one host thread.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "engine.h"
#include "fibre.h"

namespace densefield::emulation {

// A kernel in flight, shared by all workers.
struct Launch {
  GridShape shape;
  void (*body)(void*);
  void* arguments;
  uint64_t num_blocks;
  std::atomic<uint64_t> next_block{0};
  std::atomic<bool> has_failed{false};
  char error[400] = "";
  // Memory of which TSan must see a fresh piece for every block; unmapped after the kernel.
  struct Mapping {
    Mapping* previous;
    std::size_t num_bytes;
  };
  Mapping* mappings = nullptr;
  char start = 0, end = 0;  // addresses that stand for begin and end of the kernel, for TSan

  void set_error(const char* text);
};

// A host thread that runs one block after another. Nothing is allocated while a kernel runs,
// but for stacks that are kept: TSan would see the allocations.
class Worker {
 public:
  Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;
  ~Worker();

  // Runs blocks of the launch until none is left.
  void run(Launch& launch);

  // Of the thread that runs now.
  void sync_block(const char* file, int line);
  uint64_t warp_collective(uint32_t mask, Collective kind, uint64_t value, int source_lane);
  void maybe_switch();
  void* shared_array(int declaration, std::size_t num_bytes);
  [[noreturn]] void fail(const char* what);
  // Body of every fibre: runs threads until none is left to start.
  [[noreturn]] void run_fibre();

 private:
  enum class State : uint8_t { waits_to_start, is_ready, at_barrier, in_collective, has_ended };
  struct Thread : ThreadIds {
    State state;
    Collective kind;
    bool is_undefined;  // its shuffle read a lane outside the mask
    uint8_t parity;     // of the warp barriers that it passed
    int source;
    int line;  // of the barrier it waits at
    const char* file;
    uint32_t mask;
    Fibre* fibre;
    uint64_t value, result;
  };

  Thread& current() { return *static_cast<Thread*>(current_ids); }
  void run_block(uint64_t index);
  void start_block(uint64_t index);
  void choose_order(uint64_t index);
  void prepare_shared();
  void report_deadlock();
  Fibre& fibre_for_next();
  void jump(Fibre& to);
  void resume_next();
  void wait_here(Thread& thread);
  void make_ready(Thread& thread);
  void open_barrier();
  void* barrier_address(unsigned offset) const;  // null without TSan
  void finish_collective(Thread& last, unsigned base);
  uint64_t random();

#ifdef DF_EMULATION_TSAN
  static constexpr unsigned kFibreSets = 3;  // blocks take them in turn: other threads to TSan
#else
  static constexpr unsigned kFibreSets = 1;
#endif
  static constexpr int kMaxShared = 256;  // __shared__ declarations of the library

  Launch* launch_ = nullptr;
  GridShape shape_{};
  Thread threads_[kMaxBlockThreads];
  unsigned order_[kMaxBlockThreads];  // in which they start
  unsigned ready_[kMaxBlockThreads];  // a ring of those that may go on
  unsigned first_ready_ = 0, num_ready_ = 0;
  unsigned num_threads_ = 0, next_start_ = 0, num_alive_ = 0, num_at_barrier_ = 0;
  unsigned barrier_parity_ = 0;
  int num_in_collective_[kMaxBlockThreads];  // by the first lane of the mask
  std::unique_ptr<Fibre[]> fibres_;
  unsigned used_fibres_ = 0;
  Fibre host_, *running_ = nullptr;
  uint64_t random_state_ = 1, block_number_ = 0;
  void* shared_[kMaxShared] = {};
  uint64_t shared_block_[kMaxShared] = {};  // the block that the memory was last cleared for
  [[maybe_unused]] std::size_t dynamic_bytes_ = 0;  // of shape_.shared; not with TSan
  char* barriers_ = nullptr;                        // addresses that stand for barriers, for TSan
};

extern thread_local Worker* this_worker;

// What a kernel finds in memory that nobody wrote: a NaN as a real, far away as an index.
void fill_undefined(void* memory, std::size_t num_bytes);

}  // namespace densefield::emulation
