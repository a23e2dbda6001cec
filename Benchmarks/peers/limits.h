// What the machine and the kernel can do at best: two processes, and nothing between them but the mechanism named.
// limits.c holds the table of cases and runs them; the other files hold the two sides of each case.
#ifndef PEERS_LIMITS_H
#define PEERS_LIMITS_H

#include "common.h"

#include <liburing.h>
#include <stdatomic.h>
#include <stddef.h>

/// Mapped by both sides, zero-filled before each case.
struct limits_shared {
  _Atomic uint32_t sides_ready;
  double value;  // of a rate; a round trip fills the histogram instead
  uint64_t messages;             // there, or there and back, the warm-up included; 0: none are counted
  struct peers_usage spent[2];   // by the first and by the second side
  struct peers_histogram latency;
  _Alignas(128) _Atomic uint32_t word_there;  // each word alone on its pair of cache lines
  _Alignas(128) _Atomic uint32_t word_back;
  _Alignas(128) _Atomic uint32_t stop;
  _Alignas(128) _Atomic uint64_t tail;
  _Alignas(128) _Atomic uint64_t head;
  _Alignas(4096) uint8_t ring[4 << 20];
};

struct limits_run {
  struct limits_shared *shared;
  double seconds;
  size_t size;            // bytes per message
  size_t ring_bytes;      // of shared->ring, for the copies
  int cpus[2];            // where the two sides run
  int there[2], back[2];  // descriptors made before the fork by the case's `open`: [0] is read, [1] written
  struct io_uring *rings;  // the same for rings of the kernel: the asker's and the answerer's
};

/// One side. Returns when the case is over.
typedef void limits_side(struct limits_run *run);

/// The number of an asker's last question: the answerer stops without an answer.
#define LIMITS_LAST UINT32_MAX

#define LIMITS_WARM_UP_SECONDS 0.1

/// Both sides are pinned and open. Yields, because both may be on one CPU.
static inline void limits_meet(struct limits_run *run) {
  atomic_fetch_add(&run->shared->sides_ready, 1);
  while (atomic_load(&run->shared->sides_ready) < 2) sched_yield();
}

/// Asks until the time is over and records every round trip. `ask` must check the answer.
#define LIMITS_ASK_REPEATEDLY(run, sequence, ask)                                              \
  do {                                                                                         \
    uint32_t sequence = 1;                                                                     \
    uint64_t before = peers_ticks(), begin = before + peers_ticks_in(LIMITS_WARM_UP_SECONDS);  \
    uint64_t until = begin + peers_ticks_in((run)->seconds);                                   \
    for (; before < until; sequence++) {                                                       \
      ask;                                                                                     \
      uint64_t after = peers_ticks();                                                          \
      if (before >= begin) peers_record(&(run)->shared->latency, after - before);              \
      before = after;                                                                          \
    }                                                                                          \
    (run)->shared->messages = sequence - 1;                                                    \
  } while (0)

/// Does `work` until the time is over, and leaves how often it was done per second.
#define LIMITS_RATE(run, perRepetition, work)                                                          \
  do {                                                                                                 \
    uint64_t end = peers_ticks() + peers_ticks_in(LIMITS_WARM_UP_SECONDS);                             \
    while (peers_ticks() < end) work;                                                                  \
    uint64_t begin = peers_ticks(), now = begin, done = 0;                                             \
    for (end = begin + peers_ticks_in((run)->seconds); now < end; now = peers_ticks(), done++) work;   \
    (run)->shared->value = (double)(done * (perRepetition)) / ((double)(now - begin) * peers_ns_per_tick / 1e9); \
  } while (0)

// limits_memory.c
limits_side cache_line_ask, cache_line_answer;
limits_side copy_produce, copy_consume, string_produce, string_consume;
limits_side words_produce, words_consume;
limits_side fault_allocating, fault_mapping, map_populated;

// limits_wake.c
limits_side futex_ask, futex_answer;
limits_side eventfd_ask, eventfd_answer;
limits_side message_ask, message_answer;  // socket and pipe
limits_side open_eventfds, open_sockets, open_pipes;

// limits_ring.c
limits_side open_rings, close_rings;
limits_side ring_message_ask, ring_message_answer;
limits_side open_rings_and_eventfds, ring_eventfd_ask, ring_eventfd_answer;

// limits_channel.c
limits_side make_socketpair, make_memfd, make_memfd_mapped;
limits_side pass_one, pass_many, pass_answer;
limits_side notice_socket, notice_pidfd;
limits_side pass_memory_one, pass_memory_many, pass_memory_answer;

#endif
