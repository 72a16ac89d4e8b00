/* How fast this processor multiplies and adds, and how fast its clock ticks.
 *
 * Compiled when the benchmarks run, for one instruction set: LANES floats fill a vector. No number
 * leaves the registers inside the loops.
 */

#include <stdint.h>

#ifndef LANES
#error "LANES must be the number of floats in a vector"
#endif

#if defined(__x86_64__)
#define REGISTER "v" /* a vector register */
#elif defined(__aarch64__)
#define REGISTER "w"
#else
#error "the constraint for a vector register of this processor is not known"
#endif

typedef float Vector __attribute__((vector_size(4 * LANES)));

/* Twelve independent sums. A multiply-add takes 4 or 5 cycles and two start in each, so that fewer
 * than 10 would wait for each other; 12 and two constants fit the 16 registers of AVX2. They are
 * variables and no array: an array is kept in memory, and the loop then measures that. */
#define FOR_EACH_SUM(DO) \
  DO(sum0) DO(sum1) DO(sum2) DO(sum3) DO(sum4) DO(sum5) \
  DO(sum6) DO(sum7) DO(sum8) DO(sum9) DO(sum10) DO(sum11)

/* Runs `rounds` times twelve multiply-adds on vectors; returns a number that depends on all. */
float multiply_add(int64_t rounds) {
  Vector factor = (Vector){0} + 0.5f;
  Vector term = (Vector){0} + 0.25f;
#define START(sum) Vector sum = term;
#define STEP(sum)              \
  sum = sum * factor + term;   \
  __asm__ volatile("" : "+" REGISTER(sum)); /* no round may be left out or merged */
#define ADD(sum) total += sum;
  FOR_EACH_SUM(START)
  for (int64_t round = 0; round < rounds; ++round) {
    FOR_EACH_SUM(STEP)
  }
  Vector total = (Vector){0};
  FOR_EACH_SUM(ADD)
  return total[0];
}

/* Runs a chain of `steps` times 8 integer additions, each waiting for the one before: one cycle
 * each on every processor of the last decades, whatever its width. */
uint64_t chain(int64_t steps) {
  uint64_t x = 1;
  uint64_t one = 1;
  __asm__ volatile("" : "+r"(one));
  for (int64_t step = 0; step < steps; ++step) {
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      x += one;
      __asm__ volatile("" : "+r"(x));
    }
  }
  return x;
}
