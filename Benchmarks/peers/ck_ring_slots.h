// The few calls of ck_ring that ck_ring.cpp makes, for each message size.
#ifndef PEERS_CK_RING_SLOTS_H
#define PEERS_CK_RING_SLOTS_H

#include <stdbool.h>
#include <stddef.h>

#define PEERS_CK_SIZES(apply) apply(8) apply(64) apply(256) apply(1024) apply(8192) apply(65536) apply(1048576)

#ifdef __cplusplus
extern "C" {
#endif

/// `ring`: 256 bytes, aligned to 64. `slots`: `count` messages, `count` a power of two; one slot stays free.
void peers_ck_init(void *ring, unsigned count);

/// false if the ring is full, or empty. The message is copied.
#define PEERS_CK_DECLARE(size)                                       \
  bool peers_ck_push##size(void *ring, void *slots, void *message); \
  bool peers_ck_pop##size(void *ring, void *slots, void *message);
PEERS_CK_SIZES(PEERS_CK_DECLARE)
#undef PEERS_CK_DECLARE

#ifdef __cplusplus
}
#endif
#endif
