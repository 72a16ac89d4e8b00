// What lets one text compile for the host, for SIMD vectors on the host, and for CUDA.
// DF_HD functions are templates over a scalar T, or over a vector of T on the host:
// they use operators, comparisons with ?: and the functions below, and nothing else.
#pragma once

#include <cstdint>
#include <type_traits>

#ifdef __CUDACC__
#define DF_HD __host__ __device__ __forceinline__
#else
#define DF_HD inline __attribute__((always_inline))
#endif

namespace densefield {

// What differs between a scalar and a vector of scalars. SIMD files specialise it.
template <typename V>
struct Lanes {
  using Scalar = V;
  using Int = std::conditional_t<sizeof(V) == 4, int32_t, int64_t>;

  static DF_HD Int to_int(V x) { return static_cast<Int>(x); }
  static DF_HD V bits_to_real(Int bits) { return __builtin_bit_cast(V, bits); }
  static DF_HD Int real_to_bits(V x) { return __builtin_bit_cast(Int, x); }
};
template <typename V>
using Scalar = typename Lanes<V>::Scalar;
template <typename V>
using Int = typename Lanes<V>::Int;  // integer of the same width and shape

// Truncates towards zero; the value must fit.
template <typename V>
DF_HD Int<V> to_int(V x) {
  return Lanes<V>::to_int(x);
}

// 2^n, for -126 <= n <= 127 (float) or -1022 <= n <= 1023 (double).
template <typename V>
DF_HD V power_of_two(Int<V> n) {
  constexpr bool kIsFloat = sizeof(Scalar<V>) == 4;
  constexpr int kBias = kIsFloat ? 127 : 1023;
  constexpr int kMantissaBits = kIsFloat ? 23 : 52;
  return Lanes<V>::bits_to_real((n + kBias) << kMantissaBits);
}

template <typename V>
DF_HD V smaller(V a, V b) {
  return a < b ? a : b;
}
template <typename V>
DF_HD V larger(V a, V b) {
  return a < b ? b : a;
}

// 1.5 * 2^(mantissa bits): added to a number it leaves no room for a fraction, so the addition
// itself rounds, halves to even, and the integer stands in the sum's lowest bits.
// Exact for |x| < 2^22 (float), 2^51 (double).
template <typename T>
constexpr T kRoundingShift = sizeof(T) == 4 ? T(12582912.0) : T(6755399441055744.0);

// Nearest integer, halves to even.
template <typename V>
DF_HD V round_even(V x) {
  return (x + kRoundingShift<Scalar<V>>)-kRoundingShift<Scalar<V>>;
}

// x * 2^n for `shifted` = n + kRoundingShift; x and the result must be normal numbers.
template <typename V>
DF_HD V times_power_of_two(V x, V shifted) {
  constexpr int kMantissaBits = sizeof(Scalar<V>) == 4 ? 23 : 52;
  return Lanes<V>::bits_to_real(Lanes<V>::real_to_bits(x) +
                                (Lanes<V>::real_to_bits(shifted) << kMantissaBits));
}

}  // namespace densefield
