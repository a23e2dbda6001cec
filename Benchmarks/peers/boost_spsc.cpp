// boost::lockfree::spsc_queue with a capacity fixed at compile time, which is what its manual asks for when the queue
// is in memory shared by two processes. Once with push and pop of one, once with its push and pop of many.
#include <boost/lockfree/spsc_queue.hpp>

#include "slots.hpp"

using namespace peers;

template <size_t bytesPerMessage, size_t count>
struct BoostRing {
  static constexpr size_t size = bytesPerMessage;
  alignas(4096) boost::lockfree::spsc_queue<Message<size>, boost::lockfree::capacity<count>> queue;
  bool push(const Message<size> &message) { return queue.push(message); }
  bool pop(Message<size> &message) { return queue.pop(message); }
  size_t push(const Message<size> *messages, size_t limit) { return queue.push(messages, limit); }
  size_t pop(Message<size> *messages, size_t limit) { return queue.pop(messages, limit); }
};

int main(int argc, char **argv) {
  const char *note = "one copy in by push, one out by pop, no batching, both sides spin; " PEERS_SLOTS_NOTE;
  const char *batched = "push and pop of up to 64 at a time, one copy in and one out per message, both sides spin; " PEERS_SLOTS_NOTE;
  Peer peer = {"boost_spsc", Placement::processes, slotMemoryBytes, slotCases<BoostRing>(note)};
  addRuns<BoostRing>(peer.cases, batched, SmallSizes());
  return run(peer, argc, argv);
}
