// How a kernel is normalised, maths §3.
#pragma once

namespace densefield {

enum class Normalization { none, before, after, symmetric };

}  // namespace densefield
