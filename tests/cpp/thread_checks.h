// What the tests of the thread pool share: two questions about a loop, and a child to ask in.
#pragma once

#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <set>
#include <vector>

#include "checks.h"
#include "densefield/threads.h"

// Longer than any test takes, sanitizers included: what still runs then has hung.
constexpr unsigned kHangSeconds = 120;

// Runs body in a forked child; true if it returned true there within kHangSeconds.
template <typename F>
bool holds_in_child(F body) {
  std::fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    alarm(kHangSeconds);
    _exit(body() ? 0 : 1);
  }
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child) return false;
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

// Is every index handed out exactly once, to a worker in range?
inline bool loop_is_right(int64_t num_tasks, int num_workers) {
  std::vector<int> count(static_cast<std::size_t>(num_tasks), 0);
  std::atomic<bool> in_range{true};
  densefield::parallel_for(num_tasks, num_workers, [&](int64_t task, int worker) {
    ++count[static_cast<std::size_t>(task)];
    if (worker < 0 || worker >= num_workers) in_range = false;
  });
  return in_range && std::all_of(count.begin(), count.end(), [](int c) { return c == 1; });
}

// Loops of num_workers tasks that all wait for each other, so that each needs a thread of its own.
inline bool all_workers_take_part(int num_workers) {
  std::atomic<int> num_there{0};
  std::set<int> workers;
  std::vector<int> worker_of_task(static_cast<std::size_t>(num_workers), -1);
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(kHangSeconds / 2);
  densefield::parallel_for(num_workers, num_workers, [&](int64_t task, int worker) {
    worker_of_task[static_cast<std::size_t>(task)] = worker;
    ++num_there;
    while (num_there < num_workers && std::chrono::steady_clock::now() < end) sched_yield();
  });
  workers.insert(worker_of_task.begin(), worker_of_task.end());
  return num_there == num_workers && static_cast<int>(workers.size()) == num_workers;
}
