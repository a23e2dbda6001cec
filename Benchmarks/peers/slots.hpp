// For the peers that are rings of slots of one compile-time type: ck_ring, Boost's spsc_queue, readerwriterqueue and others.
// Their interface copies a value in and a value out; so the value is the whole message.
#pragma once

#include "driver.hpp"

#include <memory>

namespace peers {

constexpr size_t slotAlignment(size_t size) { return size >= 64 ? 64 : 8; }

template <size_t size>
struct alignas(slotAlignment(size)) Message {
  static constexpr size_t bytesPerMessage = size;
  uint8_t bytes[size];
};

/// How many slots a ring has, in three sizes: which is best depends on the ring, on the message and on the caches. Rates are
/// measured with each, and the best counts; round trips with the first, which touches the least memory.
template <size_t size>
constexpr size_t slotCounts[3] = {0, 0, 0};
template <> inline constexpr size_t slotCounts<8>[3] = {2048, 8192, 32768};
template <> inline constexpr size_t slotCounts<64>[3] = {1024, 4096, 16384};
template <> inline constexpr size_t slotCounts<256>[3] = {512, 1024, 2048};
template <> inline constexpr size_t slotCounts<1024>[3] = {64, 256, 1024};
template <> inline constexpr size_t slotCounts<8192>[3] = {16, 64, 128};
template <> inline constexpr size_t slotCounts<65536>[3] = {4, 8, 16};
template <> inline constexpr size_t slotCounts<1048576>[3] = {4, 8, 16};

/// The name of that size of ring, as a variant.
template <size_t size, size_t count>
const char *ringName() {
  static const std::string name = "ring" + std::to_string(size * count >> 10) + "k";
  return name.c_str();
}

/// Enough for a ring of any of the sizes above in either direction.
constexpr size_t slotMemoryBytes = 36 << 20;

/// A message in private memory, where `bufferOffset` says.
template <class Value>
class PrivateValues {
 public:
  explicit PrivateValues(size_t count) : buffer_(count * sizeof(Value)) {
    static_assert(bufferOffset % alignof(Value) == 0);
    for (size_t i = 0; i < count; i++) fillPattern(data()[i].bytes, sizeof(Value));
  }
  Value *data() { return reinterpret_cast<Value *>(buffer_.data()); }

 private:
  Buffer buffer_;
};

/// Ring: `static constexpr size_t size`, `bool push(const Message<size> &)`, `bool pop(Message<size> &)`, and a
/// default constructor. Spins on full and on empty.
template <class Ring>
class SlotEnd {
 public:
  using Value = Message<Ring::size>;
  static constexpr size_t messageSize = Ring::size;

  SlotEnd(Side side, Job &job) : source_(1), target_(1) {
    static_assert(2 * sizeof(Ring) <= slotMemoryBytes);
    auto rings = static_cast<Ring *>(job.shared);
    if (side == Side::producer) {  // The consumer touches nothing before the two sides have met.
      new (&rings[0]) Ring;
      new (&rings[1]) Ring;
    }
    out_ = &rings[side == Side::producer ? 0 : 1];
    in_ = &rings[side == Side::producer ? 1 : 0];
  }

  uint8_t *source() { return source_.data()->bytes; }

  void send() {
    while (!out_->push(*source_.data())) peers_relax();
  }

  void flush() {}

  const uint8_t *receive() {
    while (!in_->pop(*target_.data())) peers_relax();
    return target_.data()->bytes;
  }

  void sendWord(uint64_t word) {
    Message<Ring::size> message;
    memcpy(message.bytes, &word, 8);
    while (!out_->push(message)) peers_relax();
  }

  uint64_t receiveWord() {
    Message<Ring::size> message;
    while (!in_->pop(message)) peers_relax();
    uint64_t word;
    memcpy(&word, message.bytes, 8);
    return word;
  }

 private:
  PrivateValues<Value> source_, target_;
  Ring *out_, *in_;
};

/// Ring: also `size_t push(const Message<size> *, size_t)` and `size_t pop(Message<size> *, size_t)`.
template <class Ring>
class RunEnd {
 public:
  using Value = Message<Ring::size>;
  static constexpr size_t messageSize = Ring::size, runLength = 64;

  RunEnd(Side side, Job &job) : messages_(runLength), ring_(static_cast<Ring *>(job.shared)) {
    if (side == Side::producer) new (ring_) Ring;
  }

  uint8_t *outgoing() { return messages_.data()->bytes; }
  const uint8_t *incoming() { return messages_.data()->bytes; }
  size_t sendRun(size_t from, size_t count) { return ring_->push(messages_.data() + from, count); }
  size_t receiveRun() { return ring_->pop(messages_.data(), runLength); }

 private:
  PrivateValues<Value> messages_;
  Ring *ring_;
};

template <template <size_t, size_t> class Ring, size_t size, size_t count>
Case slotOneWay(const char *note) {
  using End = SlotEnd<Ring<size, count>>;
  if (size > 8192) return {"oneway_bytes_per_s", long(size), ringName<size, count>(), oneWayBytes<End>, note};
  return {"oneway_msgs_per_s", long(size), ringName<size, count>(), oneWayMessages<End>, note};
}

template <template <size_t, size_t> class Ring, size_t... sizes>
void addOneWay(std::vector<Case> &cases, const char *note, std::index_sequence<sizes...>) {
  (cases.insert(cases.end(), {slotOneWay<Ring, sizes, slotCounts<sizes>[0]>(note),
                              slotOneWay<Ring, sizes, slotCounts<sizes>[1]>(note),
                              slotOneWay<Ring, sizes, slotCounts<sizes>[2]>(note)}), ...);
}

template <template <size_t, size_t> class Ring, size_t... sizes>
void addRoundTrips(std::vector<Case> &cases, const char *metric, const char *note, std::index_sequence<sizes...>) {
  (cases.push_back({metric, long(sizes), "", roundTrip<SlotEnd<Ring<sizes, slotCounts<sizes>[0]>>>, note}), ...);
}

template <template <size_t, size_t> class Ring, size_t size, size_t count>
Case slotRuns(const char *note) {
  static const std::string name = std::string("batch64, ") + ringName<size, count>();
  return {"oneway_msgs_per_s", long(size), name.c_str(), runsOneWay<RunEnd<Ring<size, count>>>, note};
}

/// For rings that take many messages with one call.
template <template <size_t, size_t> class Ring, size_t... sizes>
void addRuns(std::vector<Case> &cases, const char *note, std::index_sequence<sizes...>) {
  (cases.insert(cases.end(), {slotRuns<Ring, sizes, slotCounts<sizes>[0]>(note),
                              slotRuns<Ring, sizes, slotCounts<sizes>[1]>(note),
                              slotRuns<Ring, sizes, slotCounts<sizes>[2]>(note)}), ...);
}

using SmallSizes = std::index_sequence<8, 64, 1024>;
using OneWaySizes = std::index_sequence<8, 64, 1024, 8192, 65536, 1048576>;
using RoundTripSizes = std::index_sequence<8, 64, 256, 1024, 8192, 65536>;

/// The cases every ring of slots has.
template <template <size_t, size_t> class Ring>
std::vector<Case> slotCases(const char *note) {
  std::vector<Case> cases;
  addRoundTrips<Ring>(cases, "rtt_poll_ns", note, RoundTripSizes());
  addOneWay<Ring>(cases, note, OneWaySizes());
  return cases;
}

#define PEERS_SLOTS_NOTE "fixed slots, whose size the compiler knows; the variant says how many bytes the ring has"

}  // namespace peers
