#include "device_memory.h"

#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <map>
#include <mutex>
#include <new>

#include "block.h"
#include "sanitizers.h"

namespace densefield::emulation {
namespace {

constexpr std::size_t kAlignment = 256;  // as the device's allocator gives

struct Registry {
  std::mutex mutex;
  std::map<std::uintptr_t, std::size_t> pieces;
  std::size_t num_bytes = 0;
  int num_open = 0;

  void set_access([[maybe_unused]] bool is_open) {
#ifdef DF_EMULATION_ASAN
    for (const auto& [begin, size] : pieces) {
      auto* memory = reinterpret_cast<void*>(begin);
      if (is_open)
        ASAN_UNPOISON_MEMORY_REGION(memory, size);
      else
        ASAN_POISON_MEMORY_REGION(memory, size);
    }
#endif
  }
};

// The emulated device has as much memory as the host: more would end the process when touched.
std::size_t physical_bytes() {
  static const std::size_t bytes = static_cast<std::size_t>(sysconf(_SC_PHYS_PAGES)) *
                                   static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return bytes;
}

Registry& registry() {
  static Registry* all = new Registry;
  return *all;
}

}  // namespace

void* allocate_device(std::size_t num_bytes) noexcept {
  void* memory = nullptr;
  if (num_bytes >= physical_bytes() ||
      posix_memalign(&memory, kAlignment, num_bytes > 0 ? num_bytes : 1) != 0)
    return nullptr;
  fill_undefined(memory, num_bytes);
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  try {
    all.pieces.emplace(reinterpret_cast<std::uintptr_t>(memory), num_bytes);
  } catch (const std::bad_alloc&) {
    std::free(memory);
    return nullptr;
  }
  all.num_bytes += num_bytes;
  if (all.num_open == 0) all.set_access(false);
  return memory;
}

bool release_device(void* memory) noexcept {
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  const auto found = all.pieces.find(reinterpret_cast<std::uintptr_t>(memory));
  if (found == all.pieces.end()) return false;
#ifdef DF_EMULATION_ASAN
  ASAN_UNPOISON_MEMORY_REGION(memory, found->second);
#endif
  all.num_bytes -= found->second;
  all.pieces.erase(found);
  std::free(memory);
  return true;
}

bool is_device_pointer(const volatile void* pointer) noexcept {
  const auto address = reinterpret_cast<std::uintptr_t>(pointer);
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  auto behind = all.pieces.upper_bound(address);
  if (behind == all.pieces.begin()) return false;
  --behind;
  return address <= behind->first + behind->second;
}

std::size_t device_bytes_in_use() noexcept {
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  return all.num_bytes;
}

DeviceMemoryOpen::DeviceMemoryOpen() {
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  if (all.num_open++ == 0) all.set_access(true);
}

DeviceMemoryOpen::~DeviceMemoryOpen() {
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  if (--all.num_open == 0) all.set_access(false);
}

}  // namespace densefield::emulation
