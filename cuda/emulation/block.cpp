#include "block.h"

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "sanitizers.h"
#include "settings.h"
#include "shared_memory.h"

namespace densefield::emulation {

thread_local Worker* this_worker = nullptr;

namespace {

void enter_fibre() {
  announce_arrival();
  this_worker->run_fibre();
}

constexpr unsigned kBarrierSpacing = 64;  // bytes between the addresses of two lanes

}  // namespace

Worker::Worker() : fibres_(new Fibre[kFibreSets * kMaxBlockThreads]) {}

Worker::~Worker() {
  for (unsigned i = 0; i < kFibreSets * kMaxBlockThreads; ++i) release_stack(fibres_[i]);
#ifndef DF_EMULATION_TSAN
  for (void* memory : shared_) std::free(memory);
  std::free(shape_.shared);
#endif
}

uint64_t Worker::random() {  // xorshift
  random_state_ ^= random_state_ << 13;
  random_state_ ^= random_state_ >> 7;
  random_state_ ^= random_state_ << 17;
  return random_state_;
}

void Worker::run(Launch& launch) {
  this_worker = this;
  launch_ = &launch;
  void* const shared = shape_.shared;
  shape_ = launch.shape;
  shape_.shared = shared;
  current_shape = &shape_;
  running_ = &host_;
  adopt_host_stack(host_);
  while (!launch.has_failed.load(std::memory_order_relaxed)) {
    const uint64_t index = launch.next_block.fetch_add(1, std::memory_order_relaxed);
    if (index >= launch.num_blocks) break;
    run_block(index);
  }
  current_ids = nullptr;
}

void Worker::start_block(uint64_t index) {
  const dim3 grid = shape_.grid, block = shape_.block;
  ++block_number_;
  num_threads_ = block.x * block.y * block.z;
  const unsigned padded = (num_threads_ + kWarp - 1) / kWarp * kWarp;
  for (unsigned i = 0; i < padded; ++i) {
    Thread& thread = threads_[i];
    thread.thread = {i % block.x, i / block.x % block.y, i / block.x / block.y};
    thread.block = {static_cast<unsigned>(index % grid.x),
                    static_cast<unsigned>(index / grid.x % grid.y),
                    static_cast<unsigned>(index / grid.x / grid.y)};
    thread.rank = i;
    thread.state = State::waits_to_start;
    thread.is_undefined = false;
    thread.parity = 0;
    thread.fibre = nullptr;
    num_in_collective_[i] = 0;
  }
  num_alive_ = num_threads_;
  next_start_ = num_at_barrier_ = barrier_parity_ = 0;
  first_ready_ = num_ready_ = used_fibres_ = 0;
#ifdef DF_EMULATION_TSAN
  barriers_ = static_cast<char*>(fresh_mapping(*launch_, kBarrierSpacing * (padded + 1)));
#endif
}

void Worker::choose_order(uint64_t index) {
  const Settings& chosen = settings();
  for (unsigned i = 0; i < num_threads_; ++i)
    order_[i] = chosen.is_reversed ? num_threads_ - 1 - i : i;
  random_state_ = (chosen.seed + 1) * 0x9E3779B97F4A7C15ull + index * 0xD1B54A32D192ED03ull;
  for (int i = 0; i < 4; ++i) random();
  if (chosen.seed != 0)
    for (unsigned i = num_threads_; i > 1; --i) std::swap(order_[i - 1], order_[random() % i]);
  switch_chance = chosen.switch_per_million;
}

void Worker::prepare_shared() {
  const std::size_t num_bytes = shape_.shared_bytes;
  if (num_bytes == 0) return;
#ifdef DF_EMULATION_TSAN
  shape_.shared = fresh_mapping(*launch_, num_bytes);
#else
  if (dynamic_bytes_ != num_bytes) {
    std::free(shape_.shared);
    shape_.shared = allocate_aligned(num_bytes);
    dynamic_bytes_ = num_bytes;
  }
#endif
  fill_undefined(shape_.shared, num_bytes);
}

void Worker::run_block(uint64_t index) {
  start_block(index);
  choose_order(index);
  prepare_shared();
  while (num_alive_ != 0 && !launch_->has_failed.load(std::memory_order_relaxed)) {
    if (num_ready_ == 0 && next_start_ >= num_threads_) return report_deadlock();
    resume_next();
  }
}

void Worker::report_deadlock() {
  const Thread *at_barrier = nullptr, *in_collective = nullptr;
  unsigned num_collective = 0;
  for (unsigned i = 0; i < num_threads_; ++i) {
    const Thread& thread = threads_[i];
    if (thread.state == State::at_barrier) at_barrier = &thread;
    if (thread.state != State::in_collective) continue;
    ++num_collective;
    if (in_collective == nullptr) in_collective = &thread;
  }
  char text[400];
  int length = std::snprintf(text, sizeof text,
                             "deadlock: %u threads have returned, %u wait at __syncthreads",
                             num_threads_ - num_alive_, num_at_barrier_);
  const auto append = [&](const char* format, auto... values) {
    const auto used = static_cast<std::size_t>(length);
    length += std::snprintf(text + used, sizeof text - used, format, values...);
  };
  if (at_barrier != nullptr) append(" (%s:%d)", at_barrier->file, at_barrier->line);
  if (in_collective != nullptr)
    append(", %u wait in a warp collective (thread %u, mask %08x)", num_collective,
           in_collective->rank, in_collective->mask);
  launch_->set_error(text);
}

// Threads that never wait share one stack: each runs to its end, then the next one starts.
void Worker::run_fibre() {
  for (;;) {
    while (next_start_ < num_threads_) {
      Thread& thread = threads_[order_[next_start_++]];
      current_ids = &thread;
      thread.state = State::is_ready;
      tell_acquire(&launch_->start);
      launch_->body(launch_->arguments);
      tell_release(&launch_->end);
      thread.state = State::has_ended;
      --num_alive_;
      if (num_alive_ != 0 && num_at_barrier_ == num_alive_)
        fail("a thread returns while the rest of its block waits at __syncthreads");
#ifdef DF_EMULATION_TSAN
      break;  // an identity of its own for every thread
#endif
    }
    resume_next();
  }
}

Fibre& Worker::fibre_for_next() {
#ifdef DF_EMULATION_TSAN
  const auto set = static_cast<unsigned>(block_number_ % kFibreSets);
  Fibre& fibre = fibres_[set * kMaxBlockThreads + order_[next_start_]];
#else
  Fibre& fibre = fibres_[used_fibres_++];
#endif
  if (fibre.stack == nullptr) allocate_stack(fibre);
  prepare(fibre, enter_fibre);
  return fibre;
}

void Worker::jump(Fibre& to) {
  Fibre& from = *running_;
  if (&from == &to) return;
  running_ = &to;
  switch_fibres(from, to);
}

void Worker::make_ready(Thread& thread) {
  thread.state = State::is_ready;
  ready_[(first_ready_ + num_ready_++) % kMaxBlockThreads] = thread.rank;
}

// Leaves the current stack: for a new thread, for one that is ready, or for the host's if there
// is none, where run_block sees whether all have ended.
void Worker::resume_next() {
  if (launch_->has_failed.load(std::memory_order_relaxed)) return jump(host_);
  const bool is_random = settings().seed != 0;
  const bool can_start = next_start_ < num_threads_;
  if (can_start && (num_ready_ == 0 || (is_random && (random() & 1) != 0)))
    return jump(fibre_for_next());
  if (num_ready_ == 0) return jump(host_);
  if (is_random)
    std::swap(ready_[(first_ready_ + random() % num_ready_) % kMaxBlockThreads],
              ready_[first_ready_]);
  Thread& thread = threads_[ready_[first_ready_]];
  first_ready_ = (first_ready_ + 1) % kMaxBlockThreads;
  --num_ready_;
  current_ids = &thread;
  jump(*thread.fibre);
}

void Worker::wait_here(Thread& thread) {
  thread.fibre = running_;
  resume_next();
  current_ids = &thread;
}

void Worker::open_barrier() {
  num_at_barrier_ = 0;
  barrier_parity_ ^= 1;
  for (unsigned i = 0; i < num_threads_; ++i) {
    Thread& thread = threads_[settings().is_reversed ? num_threads_ - 1 - i : i];
    if (thread.state == State::at_barrier) make_ready(thread);
  }
}

void* Worker::barrier_address(unsigned offset) const {
  return barriers_ == nullptr ? nullptr : barriers_ + offset;
}

void Worker::sync_block(const char* file, int line) {
  Thread& thread = current();
  void* const barrier = barrier_address(barrier_parity_);
  tell_release(barrier);
  thread.state = State::at_barrier;
  thread.file = file;
  thread.line = line;
  if (++num_at_barrier_ == num_alive_) {
    if (num_alive_ != num_threads_)
      fail("__syncthreads after some threads of the block have returned");
    for (unsigned i = 0; i < num_threads_; ++i)
      if (threads_[i].line != line || threads_[i].file != file)
        fail("threads of one block meet at different __syncthreads");
    open_barrier();
  }
  wait_here(thread);
  tell_acquire(barrier);
}

void Worker::finish_collective(Thread& last, unsigned base) {
  uint64_t votes = 0;
  for (uint32_t rest = last.mask; rest != 0; rest &= rest - 1) {
    const auto lane = static_cast<unsigned>(std::countr_zero(rest));
    const Thread& thread = threads_[base + lane];
    if (thread.state != State::in_collective || thread.mask != last.mask ||
        thread.kind != last.kind)
      fail("lanes of a warp disagree on the mask or on the operation");
    if (thread.value != 0) votes |= uint64_t{1} << lane;
  }
  for (uint32_t rest = last.mask; rest != 0; rest &= rest - 1) {
    Thread& thread = threads_[base + static_cast<unsigned>(std::countr_zero(rest))];
    thread.is_undefined =
        last.kind == Collective::shuffle && ((last.mask >> thread.source) & 1) == 0;
    thread.result = last.kind == Collective::shuffle && !thread.is_undefined
                        ? threads_[base + static_cast<unsigned>(thread.source)].value
                        : votes;
    if (&thread != &last) make_ready(thread);
  }
}

uint64_t Worker::warp_collective(uint32_t mask, Collective kind, uint64_t value, int source_lane) {
  Thread& thread = current();
  const unsigned base = thread.rank / kWarp * kWarp;
  if (((mask >> thread.rank % kWarp) & 1) == 0)
    fail("warp collective: the calling lane is not in its own mask");
  const unsigned leader = base + static_cast<unsigned>(std::countr_zero(mask));
  void* const barrier = barrier_address(kBarrierSpacing * (leader + 1) + thread.parity);
  // A shuffle orders no memory, so TSan is told of __syncwarp only.
  if (kind == Collective::sync) tell_release(barrier);
  thread.kind = kind;
  thread.mask = mask;
  thread.value = value;
  thread.source = source_lane;
  thread.state = State::in_collective;
  if (++num_in_collective_[leader] == std::popcount(mask)) {
    num_in_collective_[leader] = 0;
    finish_collective(thread, base);
    thread.state = State::is_ready;
    if (settings().seed != 0) {
      make_ready(thread);
      wait_here(thread);
    }
  } else {
    wait_here(thread);
  }
  if (kind == Collective::sync) {
    tell_acquire(barrier);
    thread.parity ^= 1;
  }
  if (thread.is_undefined) {
    thread.is_undefined = false;
    fail("a shuffle reads a lane that is not in the mask");
  }
  return thread.result;
}

void Worker::maybe_switch() {
  constexpr uint64_t kMillion = 1000000;
  if (random() % kMillion >= static_cast<uint64_t>(switch_chance)) return;
  Thread& thread = current();
  make_ready(thread);
  wait_here(thread);
}

void* Worker::shared_array(int declaration, std::size_t num_bytes) {
  if (declaration >= kMaxShared) fail("too many __shared__ declarations");
  void*& memory = shared_[declaration];
  if (shared_block_[declaration] != block_number_) {
    shared_block_[declaration] = block_number_;
#ifdef DF_EMULATION_TSAN
    memory = fresh_mapping(*launch_, num_bytes);
#else
    if (memory == nullptr) memory = allocate_aligned(num_bytes);
#endif
    fill_undefined(memory, num_bytes);
  }
  return memory;
}

void Worker::fail(const char* what) {
  const Thread& thread = current();
  char text[400];
  std::snprintf(text, sizeof text, "block (%u, %u, %u) thread (%u, %u, %u): %s", thread.block.x,
                thread.block.y, thread.block.z, thread.thread.x, thread.thread.y, thread.thread.z,
                what);
  launch_->set_error(text);
  jump(host_);
  std::abort();
}

}  // namespace densefield::emulation
