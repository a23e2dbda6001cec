// Concurrency Kit's ck_ring, single producer and single consumer, its slots in memory shared by two processes.
// Used as ck_ring(3) says: CK_RING_PROTOTYPE for a ring of values; spinning is the caller's.
#include "ck_ring_slots.h"
#include "slots.hpp"

using namespace peers;

#define DEFINE(size)                                                                               \
  static inline bool ckPush(void *ring, void *slots, const Message<size> &message) {               \
    return peers_ck_push##size(ring, slots, const_cast<void *>(static_cast<const void *>(&message))); \
  }                                                                                                \
  static inline bool ckPop(void *ring, void *slots, Message<size> &message) {                      \
    return peers_ck_pop##size(ring, slots, &message);                                              \
  }
PEERS_CK_SIZES(DEFINE)

template <size_t bytesPerMessage, size_t count>
struct CkRing {
  static constexpr size_t size = bytesPerMessage;
  alignas(128) uint8_t ring[256];
  alignas(4096) Message<size> slots[count];
  CkRing() { peers_ck_init(ring, count); }
  bool push(const Message<size> &message) { return ckPush(ring, slots, message); }
  bool pop(Message<size> &message) { return ckPop(ring, slots, message); }
};

int main(int argc, char **argv) {
  Peer peer = {"ck_ring", Placement::processes, slotMemoryBytes,
               slotCases<CkRing>("one copy in by enqueue, one out by dequeue, no batching, both sides spin; " PEERS_SLOTS_NOTE)};
  return run(peer, argc, argv);
}
