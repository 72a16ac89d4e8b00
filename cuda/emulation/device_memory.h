// The emulated device's memory: the host's, but poisoned for ASan while no kernel runs, and
// known piece by piece, so that a host pointer in a kernel's arguments is found.
#pragma once

#include <cstddef>

namespace densefield::emulation {

// nullptr where the host has not that much. Filled with what nobody wrote.
void* allocate_device(std::size_t num_bytes) noexcept;
// False if it is not the start of an allocation.
bool release_device(void* memory) noexcept;
bool is_device_pointer(const volatile void* pointer) noexcept;
std::size_t device_bytes_in_use() noexcept;

// While one lives, all device memory may be touched. They may overlap.
class DeviceMemoryOpen {
 public:
  DeviceMemoryOpen();
  DeviceMemoryOpen(const DeviceMemoryOpen&) = delete;
  DeviceMemoryOpen& operator=(const DeviceMemoryOpen&) = delete;
  ~DeviceMemoryOpen();
};

}  // namespace densefield::emulation
