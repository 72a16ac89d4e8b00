// One mean-field update of all nodes, [KK11] Algorithm 1, maths §2: what the passes of lattices
// and of windows share. The messages come from vertices or are given as rows.
#pragma once

#include "densefield/compatibility_form.h"
#include "update_messages.cuh"
#include "update_scratch.cuh"

namespace densefield::cuda {

// The message of one kernel and what is done with it.
template <typename T>
struct UpdateMessage : KernelMessage<T> {
  const T* self;  // [N] or nullptr: the message keeps the node's own share
  CompatibilityForm form;
  const T* table;  // [1], [L] or [L, L] by columns

  template <typename Visit>
  void for_pointers(Visit visit) const {
    KernelMessage<T>::for_pointers(visit);
    visit(self);
    visit(table);
  }
};

template <typename T>
struct Update {
  int64_t num_nodes;
  int64_t num_labels;
  MessageBatch<UpdateMessage<T>> messages;
  const T* unary;     // [N, L]
  const T* energy;    // [N, L] of other operators; or nullptr
  const T* start;     // [N, L] scores so far, instead of the two; or nullptr
  const T* previous;  // [N, L] marginals before; nullptr where neither self nor change asks
  T* scores;          // [N, L] out, what the softmax is taken of; or nullptr
  T* marginals;       // [N, L] out, may be `previous`; or nullptr
  // Bits of the largest |change| of a marginal; or nullptr. They order as the numbers do.
  unsigned long long* change;

  Update as_far_as_scores(T* to) const {
    Update part = *this;
    part.scores = to;
    part.marginals = nullptr;
    part.change = nullptr;
    return part;
  }

  template <typename Visit>
  void for_pointers(Visit visit) const {
    messages.for_pointers(visit);
    visit(unary);
    visit(energy);
    visit(start);
    visit(previous);
    visit(scores);
    visit(marginals);
    visit(change);
  }
};

// Runs the update for any number of messages, which `update` does not hold yet. Returns the change
// where asked for, else 0.
template <typename T>
T run_update(DeviceMemory& memory, Update<T> update, const std::vector<UpdateMessage<T>>& messages,
             bool wants_change, CudaUpdateScratch<T>& scratch);

}  // namespace densefield::cuda
