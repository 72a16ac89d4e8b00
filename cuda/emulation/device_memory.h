// The emulated device's memory: the host's, but poisoned for ASan while no kernel runs, and
// known piece by piece, so that a host pointer in a kernel's arguments is found.
#pragma once

#include <cstddef>
#include <cstdint>

namespace densefield::emulation {

// nullptr where the device has not that much left. Filled with what nobody wrote.
void* allocate_device(int device, std::size_t num_bytes) noexcept;
// False if it is not the start of an allocation.
bool release_device(void* memory) noexcept;
// The device whose memory it is, or -1.
int device_of_pointer(const volatile void* pointer) noexcept;
inline bool is_device_pointer(const volatile void* pointer) noexcept {
  return device_of_pointer(pointer) >= 0;
}
std::size_t device_bytes_in_use(int device) noexcept;

// While one lives, all device memory may be touched. They may overlap.
class DeviceMemoryOpen {
 public:
  DeviceMemoryOpen();
  DeviceMemoryOpen(const DeviceMemoryOpen&) = delete;
  DeviceMemoryOpen& operator=(const DeviceMemoryOpen&) = delete;
  ~DeviceMemoryOpen();
};

}  // namespace densefield::emulation

// How often memory was taken so far. Tests call it by its name.
extern "C" __attribute__((visibility("default"))) int64_t densefield_emulation_allocations();
