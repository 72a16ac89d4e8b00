// Threads of the CPU backend: how many there are, and the one loop that uses them.
//
//   const int num_workers = num_threads();
//   std::vector<Scratch> scratch(num_workers);
//   parallel_for(num_tiles, num_workers, [&](int64_t tile, int worker) {
//     work(tile, scratch[worker]);
//   });
//
// The pool is the project's own: no OpenMP run time is needed, so none can clash with another
// library's, and a forked child simply starts a fresh pool.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>

namespace densefield {

// More threads than this are refused: a typing error, not a machine.
inline constexpr int kMaxThreads = 1024;

// Threads that a parallel_for of the calling thread may use, the calling thread included, in
// [1, kMaxThreads]. It is the first of these that is there:
//   1. inside a task: 1, because nested loops are serial
//   2. the calling thread's set_num_threads_here
//   3. the process's set_num_threads
//   4. the environment variable DENSEFIELD_NUM_THREADS
//   5. the environment variable OMP_NUM_THREADS, first entry of a comma list
//   6. the CPUs that the affinity mask allows (Linux), or the machine's (elsewhere)
// 4 to 6 are looked at once, when the number is first needed. A variable that is not a whole
// number in [1, kMaxThreads] is ignored and the next source is asked.
int num_threads();

// Which source decided, for people: "num_threads context", "set_num_threads",
// "DENSEFIELD_NUM_THREADS", "OMP_NUM_THREADS", "affinity mask" or "hardware".
const char* num_threads_source();

// Sets the number for the whole process, from the next loop on. Throws Error (value) unless n is
// in [1, kMaxThreads]. Threads that are no longer wanted sleep and are kept for later.
void set_num_threads(int n);

// Sets the number for loops that the calling thread starts, and for no other; 0 takes it back.
// Returns what was set before (0: nothing). Throws Error (value) unless n is in [0, kMaxThreads].
int set_num_threads_here(int n);

// One task, called through a plain pointer so that handing out a loop allocates nothing.
using TaskFunction = void (*)(void* context, int64_t task, int worker);

// What parallel_for calls; see there.
void run_tasks(int64_t num_tasks, int num_workers, TaskFunction function, void* context);

// Calls task(index, worker) exactly once for every index in [0, num_tasks), and returns when all
// calls have returned; what they wrote is then visible to the caller.
//
// worker   in [0, num_workers), held by one thread at a time: the index of scratch memory that
//          belongs to this call. Which worker gets which index changes from run to run: sums
//          must not depend on it.
// Order    tasks start in rising order (an atomic counter hands them out), the calling thread
//          takes part.
// Serial   in the caller, with worker 0, if there is one task or one worker, if the call is made
//          inside a task, or if another thread's loop holds the pool at that moment. So callers
//          never wait for each other; each next loop asks for the pool again.
// Errors   after a task threw no further ones start, and when all have stopped the exception of
//          the lowest index is rethrown: the same one that a serial loop would throw.
// Cost     measured on two virtual cores. A loop: 0.03 us if serial; 0.3 to 1 us until a second
//          thread is at work, if it still watches (20 us after its last loop); otherwise 5 us of
//          the caller's time for each sleeper, which starts 40 to 80 us later while the caller
//          works. A task: 2 ns alone, 6 to 18 ns where two threads contend for the counter. So a
//          task should be worth 10 us. No loop waits for a thread that the system does not run:
//          on a machine that is full with other work it takes no longer than a serial one.
// Fork     a child may call this at any time and gets a pool of its own. A task must not fork and
//          then return in the child: the other workers do not exist there.
//
// num_workers is clamped to [1, kMaxThreads]; if the system refuses a thread, fewer take part.
template <typename F>
void parallel_for(int64_t num_tasks, int num_workers, F&& task) {
  using Task = std::remove_reference_t<F>;
  static_assert(std::is_invocable_v<Task&, int64_t, int>,
                "a task takes (int64_t index, int worker)");
  const TaskFunction function = [](void* context, int64_t index, int worker) {
    (*static_cast<Task*>(context))(index, worker);
  };
  const void* context = std::addressof(task);
  run_tasks(num_tasks, num_workers, function, const_cast<void*>(context));
}

// The same with num_threads() workers. Take the longer form where scratch is made for each
// worker: another thread may change the number between the two calls.
template <typename F>
void parallel_for(int64_t num_tasks, F&& task) {
  parallel_for(num_tasks, num_threads(), task);
}

}  // namespace densefield

// For tools that set the threads of every library of a process, threadpoolctl among them. Both
// concern the process's number, not the calling thread's; n is clamped to [1, kMaxThreads].
extern "C" {
[[gnu::visibility("default")]] int densefield_get_num_threads() noexcept;
[[gnu::visibility("default")]] void densefield_set_num_threads(int n) noexcept;
}
