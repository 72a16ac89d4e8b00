// Memory for __shared__ arrays.
#pragma once

#include <cstddef>

#include "block.h"

namespace densefield::emulation {

// Exactly this many bytes, so that ASan sees the first one behind them.
void* allocate_aligned(std::size_t num_bytes);

// Pages that no thread has touched, for TSan; they are unmapped when the kernel has ended.
void* fresh_mapping(Launch& launch, std::size_t num_bytes);
void unmap_all(Launch& launch);

}  // namespace densefield::emulation
