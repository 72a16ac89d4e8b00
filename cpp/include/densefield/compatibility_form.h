// A_m of maths §6: a number times the identity, its diagonal, or the matrix by columns.
#pragma once

namespace densefield {

enum class CompatibilityForm { scalar, vector, matrix };

}  // namespace densefield
