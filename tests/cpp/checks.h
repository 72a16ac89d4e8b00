// What the tests in C++ share: CHECK, which counts, and what main returns.
#pragma once

#include <cstdio>

inline int num_passed = 0;
inline int num_failed = 0;

#define CHECK(claim)                                                    \
  do {                                                                  \
    if (claim) {                                                        \
      ++num_passed;                                                     \
    } else {                                                            \
      ++num_failed;                                                     \
      std::printf("%s:%d: not true: %s\n", __FILE__, __LINE__, #claim); \
    }                                                                   \
  } while (false)

// Prints the counts; what main returns.
inline int report() {
  std::printf("%d passed, %d failed\n", num_passed, num_failed);
  return num_failed == 0 ? 0 : 1;
}
