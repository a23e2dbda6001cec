// ck_ring.h is C and does not compile as C++, so its calls are made here. Both files are compiled with -flto: the
// calls are inlined into the measured loop, as they are where ck_ring is used as intended.
#include "ck_ring_slots.h"

#include <ck_ring.h>
#include <stdint.h>

_Static_assert(sizeof(struct ck_ring) <= 256, "what ck_ring.cpp sets aside");

void peers_ck_init(void *ring, unsigned count) { ck_ring_init(ring, count); }

// Aligned as Message in slots.hpp is, and as a struct of real fields would be.
#define DEFINE(size)                                                 \
  struct message##size {                                             \
    _Alignas(size >= 64 ? 64 : 8) uint8_t bytes[size];               \
  };                                                                 \
  CK_RING_PROTOTYPE(of##size, message##size)                         \
  bool peers_ck_push##size(void *ring, void *slots, void *message) { \
    return ck_ring_enqueue_spsc_of##size(ring, slots, message);      \
  }                                                                  \
  bool peers_ck_pop##size(void *ring, void *slots, void *message) {  \
    return ck_ring_dequeue_spsc_of##size(ring, slots, message);      \
  }
PEERS_CK_SIZES(DEFINE)
