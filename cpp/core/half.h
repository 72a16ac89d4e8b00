// Numbers of 16 bits as float, exactly.
#pragma once

#include "portable.h"

namespace densefield {

// bfloat16: the upper half of a float.
DF_HD float bfloat16_value(uint16_t bits) {
  return Lanes<float>::bits_to_real(static_cast<int32_t>(static_cast<uint32_t>(bits) << 16));
}

// IEEE binary16: 5 bits of exponent where a float has 8, 10 of mantissa where it has 23.
DF_HD float float16_value(uint16_t bits) {
  constexpr uint32_t kInfinity = 0x7C00;
  constexpr int kMantissaGap = 23 - 10;
  const uint32_t magnitude = bits & 0x7FFFu;
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
  const uint32_t shifted = magnitude << kMantissaGap;
  if (magnitude >= kInfinity)
    return Lanes<float>::bits_to_real(static_cast<int32_t>(sign | 0x7F800000u | shifted));
  // The difference of the exponents' offsets, 127 - 15; subnormal numbers come out right too.
  const float value = Lanes<float>::bits_to_real(static_cast<int32_t>(shifted)) * 0x1p112f;
  return sign != 0 ? -value : value;
}

}  // namespace densefield
