// The thread pool behind parallel_for. Four states of one 64-bit word (Gate) order everything:
// closed -> open (a loop is offered) -> closed again (no one may join any more) -> empty (all
// who joined have left; the next loop may be offered). A worker that wakes too late finds the
// gate closed and goes back to sleep, so no loop waits for a thread that the system has not run.
#include "densefield/threads.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "densefield/error.h"
#if defined(__linux__)
#include <sched.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace densefield {
namespace {

// ---- how many threads ------------------------------------------------------------------------

// In the order of the names in num_threads_source.
enum class Source : int32_t { unknown, call, own_variable, omp_variable, affinity, hardware };

// Kept in one atomic word, so that a number is never seen with another's source.
struct Setting {
  int32_t count;  // 0: not looked up yet
  Source source;
};
std::atomic<Setting> process_setting{Setting{0, Source::unknown}};
static_assert(std::atomic<Setting>::is_always_lock_free, "a fork must never find a lock held");

thread_local int override_here = 0;    // set_num_threads_here, 0: none
thread_local bool is_in_task = false;  // true while a loop that holds the pool runs tasks here

// The whole number that an environment variable holds, or 0 if it holds none in [1, kMaxThreads].
int number_in_variable(const char* name, bool takes_first_of_list) {
  const char* value = std::getenv(name);
  if (value == nullptr) return 0;
  std::string_view text(value);
  if (takes_first_of_list) text = text.substr(0, text.find(','));
  const std::size_t first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return 0;
  text = text.substr(first, text.find_last_not_of(" \t") - first + 1);
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const bool is_whole = error == std::errc() && end == text.data() + text.size();
  return is_whole && number >= 1 && number <= kMaxThreads ? number : 0;
}

// CPUs that this thread may run on, or 0 where the system does not tell.
int num_cpus_in_affinity_mask() {
#if defined(__linux__)
  // The kernel refuses a mask shorter than its own, whose length it does not tell: try longer ones.
  constexpr std::size_t kLongestMask = 1 << 18;  // CPUs; Linux stops at 2^13
  for (std::size_t num_cpus = CPU_SETSIZE; num_cpus <= kLongestMask; num_cpus *= 2) {
    cpu_set_t* mask = CPU_ALLOC(num_cpus);
    if (mask == nullptr) return 0;
    const std::size_t num_bytes = CPU_ALLOC_SIZE(num_cpus);
    const int count = sched_getaffinity(0, num_bytes, mask) == 0 ? CPU_COUNT_S(num_bytes, mask) : 0;
    CPU_FREE(mask);
    if (count > 0) return count;
  }
#endif
  return 0;
}

Setting default_setting() {
  if (const int n = number_in_variable("DENSEFIELD_NUM_THREADS", false)) {
    return {n, Source::own_variable};
  }
  if (const int n = number_in_variable("OMP_NUM_THREADS", true)) return {n, Source::omp_variable};
  if (const int n = num_cpus_in_affinity_mask()) {
    return {std::min(n, kMaxThreads), Source::affinity};
  }
  const int n = static_cast<int>(std::min(std::thread::hardware_concurrency(), 1U * kMaxThreads));
  return {std::max(n, 1), Source::hardware};
}

[[noreturn]] void fail_number(const std::string& lowest, int n) {
  fail_value("n must be a number of threads, " + lowest + " to " + std::to_string(kMaxThreads) +
             ", got " + std::to_string(n) + "; n=1 runs everything on the calling thread");
}

Setting current_process_setting() {
  Setting setting = process_setting.load();
  if (setting.count != 0) return setting;
  const Setting fresh = default_setting();
  // Leaves what another thread has set in the meantime, and then reports that.
  return process_setting.compare_exchange_strong(setting, fresh) ? fresh : setting;
}

// ---- waiting ---------------------------------------------------------------------------------

// How long a thread watches for work before it sleeps. A sleeper costs its waker 5 us and starts
// 40 to 80 us later (measured); who has done its share of a step waits about as long as a block
// takes for the others, and then the next step begins. Much less, and every step would start
// with sleepers: up to 6 % of an inference on two threads.
constexpr std::chrono::microseconds kWatch{300};
// From then on it lets threads run that want its CPU. With two processes of two threads each on
// two CPUs, an update for two labels took 8 % more without.
constexpr std::chrono::microseconds kYield{20};
constexpr int kPausesPerLook = 16;  // at the clock, which costs as much as a few pauses

constexpr std::size_t kCacheLine = 64;  // bytes; keeps words that different threads write apart

void pause_briefly() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// A place where one thread sleeps until is_ready() holds. Whoever makes it hold calls wake().
class Sleeper {
 public:
  template <typename Condition>
  void wait_until(Condition is_ready) {
    while (!watch(is_ready)) {
      is_asleep_.store(1);
      // The waker changes the condition first and reads is_asleep_ second, this thread does the
      // opposite, all sequentially consistent: one of the two sees the other.
      if (is_ready()) {
        is_asleep_.store(0);
        return;
      }
      is_asleep_.wait(1);
    }
  }

  void wake() {
    if (is_asleep_.load() == 1 && is_asleep_.exchange(0) == 1) is_asleep_.notify_one();
  }

 private:
  template <typename Condition>
  static bool watch(Condition is_ready) {
    if (is_ready()) return true;
    const auto start = std::chrono::steady_clock::now();
    std::chrono::steady_clock::duration waited{};
    do {
      for (int i = 0; i < kPausesPerLook; ++i) {
        pause_briefly();
        if (is_ready()) return true;
      }
      waited = std::chrono::steady_clock::now() - start;
      // Whoever is waited for may be waiting for this CPU.
      if (waited > kYield) std::this_thread::yield();
    } while (waited < kWatch);
    return false;
  }

  alignas(kCacheLine) std::atomic<int> is_asleep_{0};
};

// ---- the pool --------------------------------------------------------------------------------

// The word that says who may work: number of the loop (31 bits), is it open (1), workers it wants
// (16), workers at it (16, the caller not counted).
struct Gate {
  static constexpr uint64_t kOpen = uint64_t{1} << 32;

  static uint64_t opened(uint64_t loop, int num_workers) {
    return (loop << 33) | kOpen | (static_cast<uint64_t>(num_workers) << 16);
  }
  static uint64_t loop(uint64_t word) { return word >> 33; }
  static bool is_open(uint64_t word) { return (word & kOpen) != 0; }
  static int num_wanted(uint64_t word) { return static_cast<int>((word >> 16) & 0xFFFF); }
  static int num_inside(uint64_t word) { return static_cast<int>(word & 0xFFFF); }
};
static_assert(kMaxThreads <= 0xFFFF, "a gate counts its workers in 16 bits");

class Pool {
 public:
  // The pool of this process, made on first use. It is never destroyed and its threads are never
  // joined: at exit they sleep or finish a task, and both need the pool's memory. Joining there
  // could wait for ever (for threads that a fork has not copied, or under a loader's lock).
  static Pool& of_this_process() {
    Pool* pool = current_.load();
    if (pool == nullptr) {
      Pool* fresh = new Pool;
      if (current_.compare_exchange_strong(pool, fresh)) return *fresh;
      delete fresh;  // another thread was first; this one has started no threads yet
    }
    return *pool;
  }

  // In a forked child: the parent's pool is given up as it is, with locks and words in any state.
  static void forget_after_fork() { current_.store(nullptr); }

  // A loop holds the pool from try_hold to release; only the holder calls run.
  bool try_hold() { return !is_held_.exchange(true); }
  void release() { is_held_.store(false); }

  // Returns the exception of the lowest task that threw one, or null.
  std::exception_ptr run(int64_t num_tasks, int num_workers, TaskFunction function, void* context);

 private:
  void start_workers(int num_wanted);
  void work(Sleeper& sleeper, int worker);
  bool join(int worker, uint64_t last_loop, uint64_t& word);
  void do_tasks(int worker);
  void keep_error(int64_t task);

  static std::atomic<Pool*> current_;

  std::atomic<bool> is_held_{false};
  std::vector<Sleeper*> workers_;  // element k belongs to worker k + 1; worker 0 is the caller
  uint64_t num_loops_ = 0;

  // The loop on offer: written by the holder while the gate is closed and empty.
  int64_t num_tasks_ = 0;
  TaskFunction function_ = nullptr;
  void* context_ = nullptr;

  std::mutex error_mutex_;
  std::exception_ptr error_;
  int64_t error_task_ = 0;

  Sleeper caller_;
  alignas(kCacheLine) std::atomic<uint64_t> gate_{0};
  alignas(kCacheLine) std::atomic<int64_t> next_task_{0};
};

std::atomic<Pool*> Pool::current_{nullptr};

// Registered when the library is loaded, before any thread of ours can be in the middle of it.
[[maybe_unused]] const int fork_handler_status =
    pthread_atfork(nullptr, nullptr, [] { Pool::forget_after_fork(); });

// While it lives, threads that are started inherit a mask without asynchronous signals: these
// stay with the program's own threads. Faults are still reported where they happen.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t blocked;
    sigfillset(&blocked);
    for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP}) {
      sigdelset(&blocked, fault);
    }
    pthread_sigmask(SIG_BLOCK, &blocked, &before_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t before_;
};

// Does nothing if the workers are there. If the system refuses one, the loop runs with fewer.
void Pool::start_workers(int num_wanted) {
  if (static_cast<int>(workers_.size()) >= num_wanted) return;
  const SignalsBlocked signals_blocked;
  try {
    workers_.reserve(static_cast<std::size_t>(num_wanted));
    while (static_cast<int>(workers_.size()) < num_wanted) {
      auto sleeper = std::make_unique<Sleeper>();
      const int worker = static_cast<int>(workers_.size()) + 1;
      std::thread([this, &place = *sleeper, worker] { work(place, worker); }).detach();
      workers_.push_back(sleeper.release());  // never freed, as the pool
    }
  } catch (const std::system_error&) {  // no more threads
  } catch (const std::bad_alloc&) {     // no memory to make one
  }
}

// The life of a worker.
void Pool::work(Sleeper& sleeper, int worker) {
  is_in_task = true;
  uint64_t last_loop = 0;
  for (;;) {
    uint64_t word = 0;
    sleeper.wait_until([&] { return join(worker, last_loop, word); });
    last_loop = Gate::loop(word);
    do_tasks(worker);
    const uint64_t after = gate_.fetch_sub(1) - 1;
    if (!Gate::is_open(after) && Gate::num_inside(after) == 0) caller_.wake();
  }
}

// Enters an open gate that wants this worker, once per loop; word is the gate as entered.
bool Pool::join(int worker, uint64_t last_loop, uint64_t& word) {
  word = gate_.load();
  while (Gate::is_open(word) && worker < Gate::num_wanted(word) && Gate::loop(word) != last_loop) {
    if (gate_.compare_exchange_weak(word, word + 1)) return true;
  }
  return false;
}

void Pool::do_tasks(int worker) {
  for (;;) {
    const int64_t task = next_task_.fetch_add(1, std::memory_order_relaxed);
    if (task >= num_tasks_) return;
    try {
      function_(context_, task, worker);
    } catch (...) {
      keep_error(task);
    }
  }
}

// Called inside a catch block. All lower tasks have been handed out by now and will end by
// themselves, so the lowest one that throws is the same in every run.
void Pool::keep_error(int64_t task) {
  next_task_.store(num_tasks_, std::memory_order_relaxed);
  const std::lock_guard<std::mutex> lock(error_mutex_);
  if (error_ == nullptr || task < error_task_) {
    error_ = std::current_exception();
    error_task_ = task;
  }
}

std::exception_ptr Pool::run(int64_t num_tasks, int num_workers, TaskFunction function,
                             void* context) {
  start_workers(num_workers - 1);
  num_workers = std::min(num_workers, static_cast<int>(workers_.size()) + 1);
  num_tasks_ = num_tasks;
  function_ = function;
  context_ = context;
  next_task_.store(0, std::memory_order_relaxed);
  gate_.store(Gate::opened(++num_loops_, num_workers));
  for (int worker = 1; worker < num_workers; ++worker) {
    workers_[static_cast<std::size_t>(worker - 1)]->wake();
  }

  is_in_task = true;
  do_tasks(0);
  is_in_task = false;

  gate_.fetch_and(~Gate::kOpen);
  caller_.wait_until([this] { return Gate::num_inside(gate_.load()) == 0; });
  return std::exchange(error_, nullptr);
}

}  // namespace

int num_threads() {
  if (is_in_task) return 1;
  return override_here > 0 ? override_here : current_process_setting().count;
}

const char* num_threads_source() {
  if (override_here > 0) return "num_threads context";
  constexpr const char* kNames[] = {"unknown",         "set_num_threads", "DENSEFIELD_NUM_THREADS",
                                    "OMP_NUM_THREADS", "affinity mask",   "hardware"};
  return kNames[static_cast<std::size_t>(current_process_setting().source)];
}

void set_num_threads(int n) {
  if (n < 1 || n > kMaxThreads) fail_number("from 1", n);
  process_setting.store({n, Source::call});
}

int set_num_threads_here(int n) {
  if (n < 0 || n > kMaxThreads) fail_number("0 (none set) or from 1", n);
  return std::exchange(override_here, n);
}

void run_tasks(int64_t num_tasks, int num_workers, TaskFunction function, void* context) {
  num_workers = std::clamp(num_workers, 1, kMaxThreads);
  num_workers = static_cast<int>(std::min<int64_t>(num_workers, num_tasks));
  if (num_workers > 1 && !is_in_task) {
    Pool& pool = Pool::of_this_process();
    if (pool.try_hold()) {
      const std::exception_ptr error = pool.run(num_tasks, num_workers, function, context);
      pool.release();
      if (error != nullptr) std::rethrow_exception(error);
      return;
    }
  }
  for (int64_t task = 0; task < num_tasks; ++task) function(context, task, 0);
}

}  // namespace densefield

int densefield_get_num_threads() noexcept { return densefield::current_process_setting().count; }

void densefield_set_num_threads(int n) noexcept {
  densefield::set_num_threads(std::clamp(n, 1, densefield::kMaxThreads));
}
