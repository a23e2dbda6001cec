// moodycamel's ReaderWriterQueue. It allocates blocks and links them by pointer, so it cannot lie in memory that two
// processes share: the two sides are threads. The sleeping figures use its blocking form, which spins up to 1024
// times before it sleeps.
#include <readerwriterqueue/readerwriterqueue.h>

#include "slots.hpp"

using namespace peers;

template <size_t bytesPerMessage, size_t count>
struct MoodyRing {
  static constexpr size_t size = bytesPerMessage;
  moodycamel::ReaderWriterQueue<Message<size>> queue{count - 1};
  // try_enqueue, not enqueue: the queue keeps its first size instead of growing.
  bool push(const Message<size> &message) { return queue.try_enqueue(message); }
  bool pop(Message<size> &message) { return queue.try_dequeue(message); }
};

template <size_t bytesPerMessage, size_t count>
struct MoodyBlockingRing {
  static constexpr size_t size = bytesPerMessage;
  moodycamel::BlockingReaderWriterQueue<Message<size>> queue{count - 1};
  bool push(const Message<size> &message) { return queue.try_enqueue(message); }
  bool pop(Message<size> &message) {
    queue.wait_dequeue(message);
    return true;
  }
};

int main(int argc, char **argv) {
  Peer peer = {"readerwriterqueue", Placement::threads, slotMemoryBytes,
               slotCases<MoodyRing>("not made for shared memory; one copy in, one out, no batching, both sides spin; " PEERS_SLOTS_NOTE)};
  const char *sleeping = "BlockingReaderWriterQueue: spins up to 1024 times, then sleeps on a semaphore; not made for shared memory; one copy in, one out";
  for (const char *metric : {"rtt_sleep_ns", "rtt_sleep_onecore_ns"}) {
    addRoundTrips<MoodyBlockingRing>(peer.cases, metric, sleeping, std::index_sequence<8, 1024>());
  }
  return run(peer, argc, argv);
}
