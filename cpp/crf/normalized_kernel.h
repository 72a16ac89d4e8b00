#pragma once

#include "densefield/crf.h"

namespace densefield {

// Builds the lattice of a kernel and its scales pre and post, maths §3.
template <typename T>
LatticeKernel<T> make_normalized_kernel(Backend<T>& backend,
                                        std::shared_ptr<const NodeLayout> layout,
                                        const KernelSpec<T>& spec);

}  // namespace densefield
