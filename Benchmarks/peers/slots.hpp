// For the peers that are rings of slots of one compile-time type: ck_ring, Boost's spsc_queue, readerwriterqueue.
// Their interface copies a value in and a value out; so the value is the whole message.
#pragma once

#include "driver.hpp"

#include <memory>

namespace peers {

constexpr size_t slotAlignment(size_t size) { return size >= 64 ? 64 : 8; }

template <size_t size>
struct alignas(slotAlignment(size)) Message {
  uint8_t bytes[size];
};

/// 64 KiB of 8-byte slots, 256 KiB to 1 MiB above, and never fewer than 4 slots: what was best of several tried here.
constexpr size_t slotCount(size_t size) {
  return size <= 8 ? 8192 : size <= 64 ? 4096 : size <= 1024 ? 512 : size <= 8192 ? 64 : size <= 65536 ? 16 : 4;
}

/// Enough for two rings of any of the sizes above.
constexpr size_t slotMemoryBytes = 16 << 20;

/// Ring: `static constexpr size_t size`, `bool push(const Message<size> &)`, `bool pop(Message<size> &)`, and a
/// default constructor. Spins on full and on empty.
template <class Ring>
class SlotEnd {
 public:
  using Value = Message<Ring::size>;

  SlotEnd(Side side, Job &job) : source_(new Value), target_(new Value) {
    static_assert(2 * sizeof(Ring) <= slotMemoryBytes);
    auto rings = static_cast<Ring *>(job.shared);
    if (side == Side::producer) {  // The consumer touches nothing before the two sides have met.
      new (&rings[0]) Ring;
      new (&rings[1]) Ring;
    }
    out_ = &rings[side == Side::producer ? 0 : 1];
    in_ = &rings[side == Side::producer ? 1 : 0];
    fillPattern(source_->bytes, Ring::size);
  }

  uint8_t *source() { return source_->bytes; }

  void send() {
    while (!out_->push(*source_)) peers_relax();
  }

  void flush() {}

  const uint8_t *receive() {
    while (!in_->pop(*target_)) peers_relax();
    return target_->bytes;
  }

 private:
  std::unique_ptr<Value> source_, target_;
  Ring *out_, *in_;
};

/// The cases every ring of slots has.
template <template <size_t> class Ring>
std::vector<Case> slotCases(const char *note) {
  return {
      {"rtt_poll_ns", 8, "", roundTrip<SlotEnd<Ring<8>>>, note},
      {"rtt_poll_ns", 64, "", roundTrip<SlotEnd<Ring<64>>>, note},
      {"rtt_poll_ns", 256, "", roundTrip<SlotEnd<Ring<256>>>, note},
      {"rtt_poll_ns", 1024, "", roundTrip<SlotEnd<Ring<1024>>>, note},
      {"oneway_msgs_per_s", 8, "", oneWayMessages<SlotEnd<Ring<8>>>, note},
      {"oneway_msgs_per_s", 64, "", oneWayMessages<SlotEnd<Ring<64>>>, note},
      {"oneway_msgs_per_s", 1024, "", oneWayMessages<SlotEnd<Ring<1024>>>, note},
      {"oneway_msgs_per_s", 8192, "", oneWayMessages<SlotEnd<Ring<8192>>>, note},
      {"oneway_bytes_per_s", 65536, "", oneWayBytes<SlotEnd<Ring<65536>>>, note},
      {"oneway_bytes_per_s", 1048576, "", oneWayBytes<SlotEnd<Ring<1048576>>>, note},
  };
}

#define PEERS_SLOTS_NOTE "fixed slots: 64 KiB at 8 B, 256 KiB at 64 B, 512 KiB at 256 B to 8 KiB, 1 MiB at 64 KiB, 4 MiB at 1 MiB"

}  // namespace peers
