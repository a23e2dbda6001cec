// moodycamel's ConcurrentQueue, made for many producers and consumers, used by one of each with its tokens; one message with
// a call, and up to 64. Linked by pointers, so the two sides are threads.
#include <concurrentqueue/concurrentqueue.h>

#include "slots.hpp"

using namespace peers;

template <size_t bytesPerMessage, size_t count>
struct ConcurrentRing {
  static constexpr size_t size = bytesPerMessage;
  moodycamel::ConcurrentQueue<Message<size>> queue{count, 1, 0};
  moodycamel::ProducerToken producer{queue};
  moodycamel::ConsumerToken consumer{queue};
  // try_enqueue, not enqueue: the queue keeps its first size instead of growing.
  bool push(const Message<size> &message) { return queue.try_enqueue(producer, message); }
  bool pop(Message<size> &message) { return queue.try_dequeue(consumer, message); }
  size_t push(const Message<size> *messages, size_t limit) {
    return queue.try_enqueue_bulk(producer, messages, limit) ? limit : 0;
  }
  size_t pop(Message<size> *messages, size_t limit) { return queue.try_dequeue_bulk(consumer, messages, limit); }
};

int main(int argc, char **argv) {
  const char *note = "made for many producers and consumers, with a token for each; not made for shared memory; one copy in, one out, both sides spin; " PEERS_SLOTS_NOTE;
  Peer peer = {"concurrentqueue", Placement::threads, slotMemoryBytes, {}};
  addRoundTrips<ConcurrentRing>(peer.cases, "rtt_poll_ns", note, std::index_sequence<8, 64, 256, 1024>());
  addOneWay<ConcurrentRing>(peer.cases, note, std::index_sequence<8, 64, 1024>());
  addRuns<ConcurrentRing>(peer.cases, note, SmallSizes());
  return run(peer, argc, argv);
}
