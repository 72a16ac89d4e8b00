// Which sanitizer the emulator is compiled for, and what it must be told. The engine itself is
// never compiled with -fsanitize=thread: DF_EMULATION_TSAN says that the kernels are.
#pragma once

#if defined(__SANITIZE_ADDRESS__)
#define DF_EMULATION_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define DF_EMULATION_ASAN 1
#endif
#endif

#ifdef DF_EMULATION_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#ifdef DF_EMULATION_TSAN
extern "C" {
void* __tsan_get_current_fiber(void);
void* __tsan_create_fiber(unsigned flags);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* address);
void __tsan_release(void* address);
}
#endif

namespace densefield::emulation {

// Everything before a release of an address happens before what follows its acquire.
inline void tell_release([[maybe_unused]] void* address) {
#ifdef DF_EMULATION_TSAN
  __tsan_release(address);
#endif
}
inline void tell_acquire([[maybe_unused]] void* address) {
#ifdef DF_EMULATION_TSAN
  __tsan_acquire(address);
#endif
}

}  // namespace densefield::emulation
