// Stacks to switch between: an emulated thread that waits keeps its own.
#pragma once

#include <cstddef>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace densefield::emulation {

struct Fibre {
  void* stack_pointer = nullptr;  // while it does not run
  char* stack = nullptr;
  std::size_t stack_bytes = 0;
  void* tsan = nullptr;        // the thread that TSan takes it for
  void* fake_stack = nullptr;  // what ASan keeps for it
#if !defined(__x86_64__)
  ucontext_t context;
#endif
};

// Gives a fibre its stack, with a page behind it that ends the process when touched.
void allocate_stack(Fibre& fibre);
void release_stack(Fibre& fibre) noexcept;

// The next switch to the fibre calls `entry`, which must not return.
void prepare(Fibre& fibre, void (*entry)());

// Describes the host thread's own stack, to switch from and back to.
void adopt_host_stack(Fibre& fibre);

void switch_fibres(Fibre& from, Fibre& to);

// To be called first on a new stack.
void announce_arrival();

}  // namespace densefield::emulation
