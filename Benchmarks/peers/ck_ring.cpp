// Concurrency Kit's ck_ring, single producer and single consumer, its slots in memory shared by two processes.
// Used as ck_ring(3) says: CK_RING_PROTOTYPE for a ring of values; spinning is the caller's.
#include "ck_ring_slots.h"
#include "slots.hpp"

using namespace peers;

template <size_t size>
struct CkSlots {
  alignas(128) uint8_t ring[256];
  alignas(4096) Message<size> slots[slotCount(size)];
  CkSlots() { peers_ck_init(ring, slotCount(size)); }
};

template <size_t size>
struct CkRing;

#define DEFINE(bytesPerMessage)                                                                         \
  template <>                                                                                           \
  struct CkRing<bytesPerMessage> : CkSlots<bytesPerMessage> {                                           \
    static constexpr size_t size = bytesPerMessage;                                                     \
    bool push(Message<size> &message) { return peers_ck_push##bytesPerMessage(ring, slots, &message); } \
    bool pop(Message<size> &message) { return peers_ck_pop##bytesPerMessage(ring, slots, &message); }   \
  };
PEERS_CK_SIZES(DEFINE)

int main(int argc, char **argv) {
  Peer peer = {"ck_ring", Placement::processes, slotMemoryBytes,
               slotCases<CkRing>("one copy in by enqueue, one out by dequeue, no batching, both sides spin; " PEERS_SLOTS_NOTE)};
  return run(peer, argc, argv);
}
