// Tests of the thread pool: numbers, the loop, several callers. Without a framework: prints
// "N passed, M failed" and exits with 1 if any failed. Meant to run under -fsanitize=thread too.
#include <sched.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "densefield/error.h"
#include "densefield/threads.h"
#include "thread_checks.h"

namespace {

using namespace densefield;

constexpr int kRounds = 2000;  // of the stress tests

template <typename F>
std::string error_text(F call) {
  try {
    call();
  } catch (const Error& error) {
    return error.kind() == Error::Kind::value ? error.what() : "another kind of error";
  }
  return "no error";
}

// ---- the number of threads -------------------------------------------------------------------
// The environment is read once per process, so each case asks in a child of a process that has
// not asked yet: these tests run first.

bool source_decides(const char* own, const char* omp, int number, const char* source) {
  return holds_in_child([=] {
    own != nullptr ? setenv("DENSEFIELD_NUM_THREADS", own, 1) : unsetenv("DENSEFIELD_NUM_THREADS");
    omp != nullptr ? setenv("OMP_NUM_THREADS", omp, 1) : unsetenv("OMP_NUM_THREADS");
    return num_threads() == number && std::strcmp(num_threads_source(), source) == 0;
  });
}

void test_variables_are_asked_in_order() {
  CHECK(source_decides("3", "5", 3, "DENSEFIELD_NUM_THREADS"));
  CHECK(source_decides(" 3 ", nullptr, 3, "DENSEFIELD_NUM_THREADS"));
  CHECK(source_decides("1024", nullptr, 1024, "DENSEFIELD_NUM_THREADS"));
  CHECK(source_decides(nullptr, "5", 5, "OMP_NUM_THREADS"));
  CHECK(source_decides(nullptr, "5,2,1", 5, "OMP_NUM_THREADS"));
}

void test_invalid_variables_are_ignored() {
  for (const char* invalid :
       {"", " ", "0", "-2", "two", "3.5", "4x", "1025", "3,2", "99999999999999999999"}) {
    CHECK(source_decides(invalid, "5", 5, "OMP_NUM_THREADS"));
  }
  CHECK(source_decides("3", ",4", 3, "DENSEFIELD_NUM_THREADS"));
}

void test_affinity_mask_decides_without_variables() {
  cpu_set_t allowed;
  CHECK(sched_getaffinity(0, sizeof allowed, &allowed) == 0);
  CHECK(source_decides(nullptr, nullptr, CPU_COUNT(&allowed), "affinity mask"));
  CHECK(source_decides("none", ",3", CPU_COUNT(&allowed), "affinity mask"));
  CHECK(holds_in_child([&] {
    unsetenv("DENSEFIELD_NUM_THREADS");
    unsetenv("OMP_NUM_THREADS");
    int cpu = 0;
    while (!CPU_ISSET(cpu, &allowed)) ++cpu;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    return sched_setaffinity(0, sizeof one, &one) == 0 && num_threads() == 1;
  }));
}

void test_set_num_threads_is_for_all_threads() {
  set_num_threads(3);
  CHECK(num_threads() == 3);
  CHECK(std::strcmp(num_threads_source(), "set_num_threads") == 0);
  int seen = 0;
  std::thread([&] { seen = num_threads(); }).join();
  CHECK(seen == 3);
}

void test_bad_numbers_are_refused_and_change_nothing() {
  set_num_threads(3);
  const std::string end = "; n=1 runs everything on the calling thread";
  CHECK(error_text([] { set_num_threads(0); }) ==
        "n must be a number of threads, from 1 to 1024, got 0" + end);
  CHECK(error_text([] { set_num_threads(-1); }) ==
        "n must be a number of threads, from 1 to 1024, got -1" + end);
  CHECK(error_text([] { set_num_threads(1025); }) ==
        "n must be a number of threads, from 1 to 1024, got 1025" + end);
  CHECK(error_text([] { set_num_threads_here(-1); }) ==
        "n must be a number of threads, 0 (none set) or from 1 to 1024, got -1" + end);
  CHECK(error_text([] { set_num_threads_here(1025); }) ==
        "n must be a number of threads, 0 (none set) or from 1 to 1024, got 1025" + end);
  CHECK(num_threads() == 3);
}

void test_override_is_for_this_thread_only() {
  set_num_threads(3);
  CHECK(set_num_threads_here(2) == 0);
  CHECK(num_threads() == 2);
  CHECK(std::strcmp(num_threads_source(), "num_threads context") == 0);
  int seen = 0;
  std::thread([&] { seen = num_threads(); }).join();
  CHECK(seen == 3);
  set_num_threads(4);
  CHECK(num_threads() == 2);
  CHECK(set_num_threads_here(0) == 2);
  CHECK(num_threads() == 4);
}

void test_c_functions_concern_the_process() {
  set_num_threads(3);
  set_num_threads_here(2);
  CHECK(densefield_get_num_threads() == 3);
  densefield_set_num_threads(5);
  CHECK(num_threads() == 2);
  set_num_threads_here(0);
  CHECK(num_threads() == 5);
  densefield_set_num_threads(0);
  CHECK(num_threads() == 1);
  densefield_set_num_threads(5000);
  CHECK(num_threads() == kMaxThreads);
}

// ---- the loop --------------------------------------------------------------------------------

void test_every_index_once() {
  for (const int64_t num_tasks : {0, 1, 2, 3, 7, 64, 10000}) {
    for (const int num_workers : {1, 2, 3, 8, 17}) CHECK(loop_is_right(num_tasks, num_workers));
  }
}

void test_no_tasks_call_nothing() {
  for (const int64_t num_tasks : {int64_t{0}, int64_t{-1}, INT64_MIN}) {
    bool is_called = false;
    parallel_for(num_tasks, 2, [&](int64_t, int) { is_called = true; });
    CHECK(!is_called);
  }
}

void test_workers_run_at_the_same_time() {
  for (const int num_workers : {2, 3, 8, 40}) CHECK(all_workers_take_part(num_workers));
}

void test_short_form_uses_num_threads() {
  set_num_threads(3);
  std::atomic<int> num_there{0};
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(kHangSeconds / 2);
  parallel_for(3, [&](int64_t, int) {  // returns early only if three threads meet
    ++num_there;
    while (num_there < 3 && std::chrono::steady_clock::now() < end) sched_yield();
  });
  CHECK(std::chrono::steady_clock::now() < end);
}

void test_one_worker_or_task_stays_on_the_caller() {
  const auto caller = std::this_thread::get_id();
  bool is_caller = true;
  std::vector<int64_t> order;
  parallel_for(5, 1, [&](int64_t task, int worker) {
    is_caller = is_caller && std::this_thread::get_id() == caller && worker == 0;
    order.push_back(task);
  });
  parallel_for(1, 8, [&](int64_t, int worker) {
    is_caller = is_caller && std::this_thread::get_id() == caller && worker == 0;
  });
  CHECK(is_caller);
  CHECK((order == std::vector<int64_t>{0, 1, 2, 3, 4}));
}

void test_scratch_of_a_worker_is_never_shared() {
  constexpr int kWorkers = 4;
  std::vector<std::atomic<int>> users(kWorkers);
  std::vector<int64_t> sums(kWorkers, 0);  // plain: the thread sanitizer watches it
  std::atomic<bool> is_shared{false};
  for (int round = 0; round < kRounds / 10; ++round) {
    parallel_for(100, kWorkers, [&](int64_t task, int worker) {
      const auto own = static_cast<std::size_t>(worker);
      if (++users[own] != 1) is_shared = true;
      sums[own] += task;
      --users[own];
    });
  }
  CHECK(!is_shared);
  CHECK(std::accumulate(sums.begin(), sums.end(), int64_t{0}) == kRounds / 10 * 4950);
}

void test_nested_loops_are_serial_and_complete() {
  std::atomic<int64_t> sum{0};
  std::atomic<bool> is_serial{true};
  set_num_threads(4);
  parallel_for(20, 4, [&](int64_t outer, int) {
    const auto thread = std::this_thread::get_id();
    if (num_threads() != 1) is_serial = false;
    parallel_for(50, 4, [&](int64_t inner, int worker) {
      if (worker != 0 || std::this_thread::get_id() != thread) is_serial = false;
      sum += outer * 50 + inner;
    });
  });
  CHECK(is_serial);
  CHECK(sum == 999 * 1000 / 2);
  CHECK(num_threads() == 4);
}

void test_lowest_exception_is_rethrown_every_time() {
  int num_right = 0;
  for (int round = 0; round < kRounds; ++round) {
    const int64_t lowest = round % 50;
    try {
      parallel_for(100, 4, [&](int64_t task, int) {
        if (task >= lowest) throw std::runtime_error(std::to_string(task));
      });
    } catch (const std::runtime_error& error) {
      num_right += error.what() == std::to_string(lowest);
    }
  }
  CHECK(num_right == kRounds);
  CHECK(loop_is_right(1000, 4));
}

void test_exception_stops_the_hand_out_and_waits_for_all() {
  std::atomic<int> num_running{0};
  std::atomic<int64_t> num_started{0};
  bool is_thrown = false;
  try {
    parallel_for(100000000, 4, [&](int64_t task, int) {
      ++num_running;
      ++num_started;
      if (task == 10) {
        --num_running;
        throw std::runtime_error("stop");
      }
      std::this_thread::sleep_for(std::chrono::microseconds(100));
      --num_running;
    });
  } catch (const std::runtime_error&) {
    is_thrown = true;
  }
  CHECK(is_thrown);
  CHECK(num_running == 0);
  CHECK(num_started < 100000000);
}

void test_exception_of_nested_loop_arrives() {
  std::string text;
  try {
    parallel_for(8, 4, [&](int64_t outer, int) {
      parallel_for(8, 4, [&](int64_t inner, int) {
        if (outer >= 3 && inner == 5) throw std::runtime_error(std::to_string(outer));
      });
    });
  } catch (const std::runtime_error& error) {
    text = error.what();
  }
  CHECK(text == "3");
}

// ---- several callers, changing numbers -------------------------------------------------------

void test_second_caller_does_not_wait_for_the_first() {
  std::atomic<bool> is_second_done{false};
  std::atomic<int> num_inside{0};
  bool is_right = false;
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(kHangSeconds / 2);
  std::thread second([&] {
    while (num_inside == 0) sched_yield();
    is_right = loop_is_right(1000, 4);
    is_second_done = true;
  });
  parallel_for(2, 2, [&](int64_t, int) {  // holds the pool until the other caller is through
    ++num_inside;
    while (!is_second_done && std::chrono::steady_clock::now() < end) sched_yield();
  });
  CHECK(is_second_done);
  second.join();
  CHECK(is_right);
}

void test_many_callers_with_changing_numbers() {
  std::atomic<int> num_wrong{0};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 4; ++caller) {
    callers.emplace_back([&, caller] {
      for (int round = 0; round < kRounds / 4; ++round) {
        if (caller == 0) set_num_threads(1 + round % 9);
        if (!loop_is_right(round % 40, num_threads())) ++num_wrong;
        if (round % 16 != caller) continue;
        try {
          parallel_for(10, 3, [](int64_t task, int) {
            if (task == 4) throw std::runtime_error("4");
          });
          ++num_wrong;
        } catch (const std::runtime_error&) {
        }
        std::this_thread::sleep_for(std::chrono::microseconds(50));  // so that workers sleep
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  CHECK(num_wrong == 0);
}

void test_sleeping_workers_wake() {
  int num_right = 0;
  for (int round = 0; round < 50; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    num_right += all_workers_take_part(4);
  }
  CHECK(num_right == 50);
}

}  // namespace

int main() {
  alarm(5 * kHangSeconds);
  test_variables_are_asked_in_order();
  test_invalid_variables_are_ignored();
  test_affinity_mask_decides_without_variables();
  test_set_num_threads_is_for_all_threads();
  test_bad_numbers_are_refused_and_change_nothing();
  test_override_is_for_this_thread_only();
  test_c_functions_concern_the_process();
  test_every_index_once();
  test_no_tasks_call_nothing();
  test_workers_run_at_the_same_time();
  test_short_form_uses_num_threads();
  test_one_worker_or_task_stays_on_the_caller();
  test_scratch_of_a_worker_is_never_shared();
  test_nested_loops_are_serial_and_complete();
  test_lowest_exception_is_rethrown_every_time();
  test_exception_stops_the_hand_out_and_waits_for_all();
  test_exception_of_nested_loop_arrives();
  test_second_caller_does_not_wait_for_the_first();
  test_many_callers_with_changing_numbers();
  test_sleeping_workers_wake();
  return report();
}
