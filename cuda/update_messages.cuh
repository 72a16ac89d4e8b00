// The messages of an update as kernels take them: what updates of rows and of two labels share.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "lattice_tables.cuh"

namespace densefield::cuda {

// What one kernel of the model says to the nodes, before its compatibility.
template <typename T>
struct KernelMessage {
  const T* values;        // [M, C] on the vertices; [N, C] messages where there are no corners
  const T* weight;        // [N, corners] or nullptr
  const int32_t* corner;  // [N, corners] or nullptr
  int corners;
  const T* post;  // [N] or nullptr: 1

  template <typename Visit>
  void for_pointers(Visit visit) const {
    visit(values);
    visit(weight);
    visit(corner);
    visit(post);
  }
};

template <typename T>
KernelMessage<T> message_of(const CudaLattice<T>& lattice, const VertexRows<T>& vertices,
                            const Buffer<T>& post) {
  return {as_cuda(vertices).values.data(), lattice.weight.data(), lattice.corner.data(),
          lattice.corners, post.data()};
}

// What one launch takes of them.
template <typename Message>
struct MessageBatch {
  static constexpr int kMost = 4;  // more are done in several launches

  int count;
  Message message[kMost];

  template <typename Visit>
  void for_pointers(Visit visit) const {
    for (int m = 0; m < count; ++m) message[m].for_pointers(visit);
  }
};

// Calls launch(update) for the messages, so many at a time as one launch takes. All but the last
// leave the scores so far in `between`, where the next one goes on; nullptr if there is but one.
template <typename Update, typename Message, typename T, typename Launch>
void run_in_batches(Update update, const std::vector<Message>& messages, T* between,
                    Launch launch) {
  constexpr std::size_t kMost = MessageBatch<Message>::kMost;
  std::size_t next = 0;
  bool is_last = false;
  while (!is_last) {
    const std::size_t count = std::min(kMost, messages.size() - next);
    is_last = next + count == messages.size();
    Update part = is_last ? update : update.as_far_as_scores(between);
    part.messages.count = static_cast<int>(count);
    std::copy_n(messages.data() + next, count, part.messages.message);
    launch(part);
    update.start = between;
    next += count;
  }
}

}  // namespace densefield::cuda
