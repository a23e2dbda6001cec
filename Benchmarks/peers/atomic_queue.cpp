// Maxim Egorushkin's atomic_queue, for one producer and one consumer: AtomicQueue2, whose elements may be any values, with
// its SPSC option. It holds no pointers, so it can lie in memory that two processes share. Slots in the order of the
// messages (MINIMIZE_CONTENTION off), which is faster here with one producer and one consumer.
#include <atomic_queue/atomic_queue.h>

#include "slots.hpp"

using namespace peers;

template <size_t bytesPerMessage, size_t count>
struct AtomicRing {
  static constexpr size_t size = bytesPerMessage;
  static constexpr bool minimizesContention = false, maximizesThroughput = true, hasTotalOrder = false, isSpsc = true;
  alignas(4096) ::atomic_queue::AtomicQueue2<Message<size>, count, minimizesContention, maximizesThroughput, hasTotalOrder, isSpsc> queue;
  bool push(const Message<size> &message) { return queue.try_push(message); }
  bool pop(Message<size> &message) { return queue.try_pop(message); }
};

int main(int argc, char **argv) {
  Peer peer = {"atomic_queue", Placement::processes, slotMemoryBytes,
               slotCases<AtomicRing>("one copy in by try_push, one out by try_pop, no batching, both sides spin; " PEERS_SLOTS_NOTE)};
  return run(peer, argc, argv);
}
