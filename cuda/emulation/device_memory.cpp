#include "device_memory.h"

#include <cstdint>
#include <cstdlib>
#include <map>
#include <mutex>
#include <new>

#include "block.h"
#include "sanitizers.h"
#include "settings.h"

namespace densefield::emulation {
namespace {

constexpr std::size_t kAlignment = 256;  // as the device's allocator gives

struct Piece {
  std::size_t num_bytes;
  int device;
};

struct Registry {
  std::mutex mutex;
  std::map<std::uintptr_t, Piece> pieces;
  std::map<int, std::size_t> num_bytes;  // in use on each device
  int64_t num_allocations = 0;
  int num_open = 0;

  void set_access([[maybe_unused]] bool is_open) {
#ifdef DF_EMULATION_ASAN
    for (const auto& [begin, piece] : pieces) {
      auto* memory = reinterpret_cast<void*>(begin);
      if (is_open)
        ASAN_UNPOISON_MEMORY_REGION(memory, piece.num_bytes);
      else
        ASAN_POISON_MEMORY_REGION(memory, piece.num_bytes);
    }
#endif
  }
};

Registry& registry() {
  static Registry* all = new Registry;
  return *all;
}

}  // namespace

void* allocate_device(int device, std::size_t num_bytes) noexcept {
  void* memory = nullptr;
  const std::size_t in_use = device_bytes_in_use(device), most = settings().device_bytes;
  if (in_use >= most || num_bytes > most - in_use ||
      posix_memalign(&memory, kAlignment, num_bytes > 0 ? num_bytes : 1) != 0)
    return nullptr;
  fill_undefined(memory, num_bytes);
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  try {
    std::size_t& in_use_there = all.num_bytes[device];
    all.pieces.emplace(reinterpret_cast<std::uintptr_t>(memory), Piece{num_bytes, device});
    in_use_there += num_bytes;
    ++all.num_allocations;
  } catch (const std::bad_alloc&) {
    std::free(memory);
    return nullptr;
  }
  if (all.num_open == 0) all.set_access(false);
  return memory;
}

bool release_device(void* memory) noexcept {
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  const auto found = all.pieces.find(reinterpret_cast<std::uintptr_t>(memory));
  if (found == all.pieces.end()) return false;
#ifdef DF_EMULATION_ASAN
  ASAN_UNPOISON_MEMORY_REGION(memory, found->second.num_bytes);
#endif
  all.num_bytes[found->second.device] -= found->second.num_bytes;
  all.pieces.erase(found);
  std::free(memory);
  return true;
}

int device_of_pointer(const volatile void* pointer) noexcept {
  const auto address = reinterpret_cast<std::uintptr_t>(pointer);
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  auto behind = all.pieces.upper_bound(address);
  if (behind == all.pieces.begin()) return -1;
  --behind;
  return address <= behind->first + behind->second.num_bytes ? behind->second.device : -1;
}

std::size_t device_bytes_in_use(int device) noexcept {
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  const auto known = all.num_bytes.find(device);
  return known == all.num_bytes.end() ? 0 : known->second;
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

int64_t densefield_emulation_allocations() {
  using namespace densefield::emulation;
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  return all.num_allocations;
}
