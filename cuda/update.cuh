// One mean-field update of all nodes, [KK11] Algorithm 1, maths §2: what the passes of lattices
// and of windows share. The messages come from vertices or are given as rows.
#pragma once

#include "densefield/compatibility_form.h"
#include "memory.cuh"

namespace densefield::cuda {

// The message of one kernel and what is done with it.
template <typename T>
struct UpdateMessage {
  const T* values;        // [M, L] on the vertices; [N, L] messages where there are no corners
  const T* weight;        // [N, corners] or nullptr
  const int32_t* corner;  // [N, corners] or nullptr
  int corners;
  const T* post;  // [N] or nullptr: 1
  const T* self;  // [N] or nullptr: the message keeps the node's own share
  CompatibilityForm form;
  const T* table;  // [1], [L] or [L, L] by columns
};

template <typename T>
struct Update {
  static constexpr int kMaxMessages = 4;  // more are done in several kernels

  int64_t num_nodes;
  int64_t num_labels;
  int num_messages;
  UpdateMessage<T> message[kMaxMessages];
  const T* unary;     // [N, L]
  const T* energy;    // [N, L] of other operators; or nullptr
  const T* start;     // [N, L] scores so far, instead of the two; or nullptr
  const T* previous;  // [N, L] marginals before; nullptr where neither self nor change asks
  T* scores;          // [N, L] out, what the softmax is taken of; or nullptr
  T* marginals;       // [N, L] out, may be `previous`; or nullptr
  // Bits of the largest |change| of a marginal; or nullptr. They order as the numbers do.
  unsigned long long* change;

  template <typename Visit>
  void for_pointers(Visit visit) const {
    for (int m = 0; m < num_messages; ++m) {
      visit(message[m].values);
      visit(message[m].weight);
      visit(message[m].corner);
      visit(message[m].post);
      visit(message[m].self);
      visit(message[m].table);
    }
    visit(unary);
    visit(energy);
    visit(start);
    visit(previous);
    visit(scores);
    visit(marginals);
    visit(change);
  }
};

// Runs the update of any number of messages: `update` holds all but those, `scratch` [N, L] is
// needed for more than kMaxMessages. Returns the change where asked for, else 0.
template <typename T>
T run_update(DeviceMemory& memory, Update<T> update, const std::vector<UpdateMessage<T>>& messages,
             bool wants_change);

}  // namespace densefield::cuda
