// Tests of the thread pool around fork, exit, signals and lack of threads; like test_threads.cpp.
// Not for -fsanitize=thread, which cannot start threads in the child of a threaded process.
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <thread>

#include "densefield/threads.h"
#include "thread_checks.h"

namespace {

using namespace densefield;

void test_child_of_a_sleeping_pool() {
  CHECK(all_workers_take_part(4));
  for (int round = 0; round < 20; ++round) {
    if (round % 2 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    CHECK(holds_in_child([] { return all_workers_take_part(4) && loop_is_right(1000, 4); }));
  }
  CHECK(all_workers_take_part(4));
}

void test_child_of_a_busy_pool() {
  std::atomic<bool> is_over{false};
  std::atomic<int64_t> num_loops{0};
  std::thread busy([&] {
    while (!is_over) {
      parallel_for(50, 3, [](int64_t, int) { sched_yield(); });
      ++num_loops;
    }
  });
  while (num_loops == 0) sched_yield();
  int num_right = 0;
  for (int round = 0; round < 100; ++round) {
    num_right += holds_in_child([] { return all_workers_take_part(3) && loop_is_right(200, 3); });
  }
  is_over = true;
  busy.join();
  CHECK(num_right == 100);
}

void test_child_of_a_child() {
  CHECK(holds_in_child([] {
    return all_workers_take_part(2) && holds_in_child([] { return all_workers_take_part(3); }) &&
           all_workers_take_part(2);
  }));
}

void test_child_keeps_the_numbers() {
  set_num_threads(3);
  set_num_threads_here(2);
  CHECK(holds_in_child([] { return num_threads() == 2 && densefield_get_num_threads() == 3; }));
  set_num_threads_here(0);
}

// exit() runs the destructors of static objects while workers sleep or watch.
void test_process_ends_with_living_workers() {
  CHECK(holds_in_child([] {
    return holds_in_child([] {
      all_workers_take_part(4);
      std::exit(0);
      return false;
    });
  }));
}

void test_workers_take_no_signals() {
  std::atomic<int> num_blocked{0};
  std::atomic<int> num_there{0};
  const auto caller = std::this_thread::get_id();
  CHECK(holds_in_child([&] {
    parallel_for(3, 3, [&](int64_t, int) {
      sigset_t blocked;
      pthread_sigmask(SIG_BLOCK, nullptr, &blocked);
      const bool is_worker = std::this_thread::get_id() != caller;
      if (is_worker && sigismember(&blocked, SIGINT) == 1 && sigismember(&blocked, SIGSEGV) == 0) {
        ++num_blocked;
      }
      ++num_there;
      while (num_there < 3) sched_yield();
    });
    sigset_t own;
    pthread_sigmask(SIG_BLOCK, nullptr, &own);
    return num_blocked == 2 && sigismember(&own, SIGINT) == 0;
  }));
}

#if !defined(__SANITIZE_ADDRESS__)  // which needs the address space that is taken away here
void test_loop_is_complete_where_threads_are_refused() {
  CHECK(holds_in_child([] {
    rlimit limit{};
    getrlimit(RLIMIT_AS, &limit);
    limit.rlim_cur = rlim_t{128} << 20;  // bytes: about ten stacks, with the program itself
    if (setrlimit(RLIMIT_AS, &limit) != 0) return false;
    return loop_is_right(5000, kMaxThreads) && loop_is_right(5000, kMaxThreads);
  }));
}
#endif

}  // namespace

int main() {
  alarm(5 * kHangSeconds);
  test_child_of_a_sleeping_pool();
  test_child_of_a_busy_pool();
  test_child_of_a_child();
  test_child_keeps_the_numbers();
  test_process_ends_with_living_workers();
  test_workers_take_no_signals();
#if !defined(__SANITIZE_ADDRESS__)
  test_loop_is_complete_where_threads_are_refused();
#endif
  return report();
}
