#include "shared_memory.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <new>

namespace densefield::emulation {
namespace {

constexpr std::size_t kAlignment = 128;
constexpr std::size_t kPage = 4096;
constexpr std::size_t kHeader = 128;  // in front of a mapping's memory

}  // namespace

// Through volatile pointers: memset and memcpy are calls that TSan watches.
void fill_undefined(void* memory, std::size_t num_bytes) {
  constexpr uint32_t kNaN = 0x7FF7BAD1;
  auto* words = static_cast<volatile uint32_t*>(memory);
  auto* bytes = static_cast<volatile unsigned char*>(memory);
  for (std::size_t i = 0; i < num_bytes / 4; ++i) words[i] = kNaN;
  for (std::size_t i = num_bytes / 4 * 4; i < num_bytes; ++i) bytes[i] = 0xD1;
}

void* allocate_aligned(std::size_t num_bytes) {
  void* memory = nullptr;
  if (posix_memalign(&memory, kAlignment, std::max<std::size_t>(num_bytes, 1)) != 0)
    throw std::bad_alloc();
  return memory;
}

void* fresh_mapping(Launch& launch, std::size_t num_bytes) {
  const std::size_t rounded = (num_bytes + kHeader + kPage - 1) / kPage * kPage;
  // The system call itself: TSan takes its own mmap for a write to the pages.
  const long address =
      syscall(SYS_mmap, nullptr, rounded, PROT_READ | PROT_WRITE,
              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, static_cast<off_t>(0));
  if (address == -1) throw std::bad_alloc();
  auto* mapping = reinterpret_cast<Launch::Mapping*>(address);
  mapping->num_bytes = rounded;
  mapping->previous = __atomic_load_n(&launch.mappings, __ATOMIC_RELAXED);
  while (!__atomic_compare_exchange_n(&launch.mappings, &mapping->previous, mapping, true,
                                      __ATOMIC_RELEASE, __ATOMIC_RELAXED)) {
  }
  return reinterpret_cast<char*>(address) + kHeader;
}

void unmap_all(Launch& launch) {
  for (Launch::Mapping* mapping = launch.mappings; mapping != nullptr;) {
    Launch::Mapping* const previous = mapping->previous;
    munmap(mapping, mapping->num_bytes);
    mapping = previous;
  }
}

}  // namespace densefield::emulation
