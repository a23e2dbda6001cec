// Limits of shared memory itself: a cache line that changes hands, bytes copied in here and out there, page faults.
#include <sys/mman.h>

#include "limits.h"

// MARK: - A cache line bounced

// Two words on two lines: each side writes its own and spins on the other's. That is the least any round trip through
// memory can cost: two line transfers.

void cache_line_ask(struct limits_run *run) {
  struct limits_shared *shared = run->shared;
  limits_meet(run);
  LIMITS_ASK_REPEATEDLY(run, sequence, {
    atomic_store_explicit(&shared->word_there, sequence, memory_order_release);
    while (atomic_load_explicit(&shared->word_back, memory_order_acquire) != sequence) peers_relax();
  });
  atomic_store(&shared->word_there, LIMITS_LAST);
}

void cache_line_answer(struct limits_run *run) {
  struct limits_shared *shared = run->shared;
  limits_meet(run);
  for (uint32_t sequence = 0, seen; sequence != LIMITS_LAST; sequence = seen) {
    while ((seen = atomic_load_explicit(&shared->word_there, memory_order_acquire)) == sequence) peers_relax();
    if (seen != LIMITS_LAST && seen != sequence + 1) peers_die("cache line: %u after %u", seen, sequence);
    atomic_store_explicit(&shared->word_back, seen, memory_order_release);
  }
}

// MARK: - Copy in and out

// Messages without headers in a ring, one copy in and one out, and as little else as keeps it correct: two indices,
// each with a cached copy of the other, published every 4 KiB or every message, whichever is more. A message longer
// than a quarter of the ring passes in pieces, so that the two copies overlap.
//
// Copied by memcpy (up to 64 bytes with a constant size, inlined) and, from 1 KiB up, by `rep movsb` as well: on some
// processors the string instruction writes whole lines without first fetching them from the other core.

#define PUBLISH_BYTES 4096

/// Aligned to a cache line, but at another page offset than the ring: between equal offsets a load looks as if it
/// overlapped the store still in flight.
static uint8_t *private_message(size_t bytes) {
  uint8_t *memory = (uint8_t *)aligned_alloc(4096, (bytes / 4096 + 2) * 4096) + 1024 + 64;
  for (size_t i = 0; i < bytes; i++) memory[i] = (uint8_t)(i * 131 + 7);
  return memory;
}

typedef void copy_function(void *to, const void *from, size_t bytes);

__attribute__((always_inline)) static inline void copy_inlined(void *to, const void *from, size_t bytes) {
  memcpy(to, from, bytes);
}

__attribute__((noinline)) static void copy_called(void *to, const void *from, size_t bytes) { memcpy(to, from, bytes); }

__attribute__((always_inline)) static inline void copy_string(void *to, const void *from, size_t bytes) {
#if defined(__x86_64__)
  __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes) : : "memory");
#else
  memcpy(to, from, bytes);
#endif
}

__attribute__((always_inline)) static inline void produce(struct limits_run *run, copy_function *copy, size_t size,
                                                          size_t piece) {
  struct limits_shared *shared = run->shared;
  size_t ring_bytes = run->ring_bytes, mask = ring_bytes - 1;
  uint8_t *message = private_message(size);
  uint64_t tail = 0, published = 0, head = 0, sequence = 0;
  limits_meet(run);
  while (atomic_load_explicit(&shared->stop, memory_order_relaxed) == 0) {
    sequence++;
    bool stamps_source = size > 1024;
    if (stamps_source) {
      memcpy(message, &sequence, 8);
      memcpy(message + size - 8, &sequence, 8);
    }
    for (size_t offset = 0; offset < size; offset += piece) {
      while (ring_bytes - (tail - head) < piece) {
        head = atomic_load_explicit(&shared->head, memory_order_acquire);
        if (atomic_load_explicit(&shared->stop, memory_order_relaxed) != 0) return;
        peers_relax();
      }
      uint8_t *slot = shared->ring + (tail & mask);
      copy(slot, message + offset, piece);
      if (!stamps_source) {  // A short copy would stall on words written to its source just before.
        memcpy(slot, &sequence, 8);
        memcpy(slot + piece - 8, &sequence, 8);
      }
      tail += piece;
      if (tail - published >= PUBLISH_BYTES) {
        atomic_store_explicit(&shared->tail, tail, memory_order_release);
        published = tail;
      }
    }
  }
}

__attribute__((always_inline)) static inline void consume(struct limits_run *run, copy_function *copy, size_t size,
                                                          size_t piece) {
  struct limits_shared *shared = run->shared;
  size_t mask = run->ring_bytes - 1;
  uint8_t *message = private_message(size);
  uint64_t head = 0, released = 0, tail = 0, sequence = 0;
  uint64_t counted = 0, begin = 0, next = peers_ticks() + peers_ticks_in(LIMITS_WARM_UP_SECONDS);
  limits_meet(run);
  for (;;) {
    for (size_t offset = 0; offset < size; offset += piece) {
      while (tail - head < piece) {
        tail = atomic_load_explicit(&shared->tail, memory_order_acquire);
        if (tail - head < piece) peers_relax();
      }
      copy(message + offset, shared->ring + (head & mask), piece);
      __asm__ volatile("" : : "r"(message) : "memory");  // the copy must happen, though little of it is looked at
      head += piece;
      if (head - released >= PUBLISH_BYTES) {
        atomic_store_explicit(&shared->head, head, memory_order_release);
        released = head;
      }
    }
    uint64_t first, last;
    memcpy(&first, message, 8);
    memcpy(&last, message + size - 8, 8);
    if (first != ++sequence || last != sequence) peers_die("copy: message %llu is damaged", (unsigned long long)sequence);
    if (size <= 1024 && sequence % 64 != 0) continue;
    uint64_t now = peers_ticks();
    if (now < next) continue;
    if (begin != 0) {
      double seconds = (double)(now - begin) * peers_ns_per_tick / 1e9;
      shared->value = (double)((sequence - counted) * size) / seconds;
      shared->messages = sequence;
      atomic_store(&shared->stop, 1);
      return;
    }
    begin = now;
    counted = sequence;
    next = now + peers_ticks_in(run->seconds);
  }
}

static size_t piece_bytes(const struct limits_run *run) {
  return run->size < run->ring_bytes / 4 ? run->size : run->ring_bytes / 4;
}

void copy_produce(struct limits_run *run) {
  if (run->size == 8) return produce(run, copy_inlined, 8, 8);
  if (run->size == 64) return produce(run, copy_inlined, 64, 64);
  produce(run, copy_called, run->size, piece_bytes(run));
}

void copy_consume(struct limits_run *run) {
  if (run->size == 8) return consume(run, copy_inlined, 8, 8);
  if (run->size == 64) return consume(run, copy_inlined, 64, 64);
  consume(run, copy_called, run->size, piece_bytes(run));
}

void string_produce(struct limits_run *run) { produce(run, copy_string, run->size, piece_bytes(run)); }

void string_consume(struct limits_run *run) { consume(run, copy_string, run->size, piece_bytes(run)); }

// MARK: - Written and read where it lies

// No copy on either side: the producer computes each word of a message into the ring, the consumer adds them up there. Both
// loops are what a compiler makes of them, as in the programs that are compared with this.

void words_produce(struct limits_run *run) {
  struct limits_shared *shared = run->shared;
  size_t mask = run->ring_bytes - 1, size = run->size;
  uint64_t tail = 0, head = 0;
  limits_meet(run);
  for (uint64_t sequence = 0;; sequence++) {
    while (run->ring_bytes - (tail - head) < size) {
      head = atomic_load_explicit(&shared->head, memory_order_acquire);
      if (atomic_load_explicit(&shared->stop, memory_order_relaxed) != 0) return;
      peers_relax();
    }
    peers_fill_words(shared->ring + (tail & mask), size, sequence);
    tail += size;
    atomic_store_explicit(&shared->tail, tail, memory_order_release);
  }
}

void words_consume(struct limits_run *run) {
  struct limits_shared *shared = run->shared;
  size_t mask = run->ring_bytes - 1, size = run->size;
  uint64_t head = 0, tail = 0, sequence = 0;
  uint64_t counted = 0, begin = 0, next = peers_ticks() + peers_ticks_in(LIMITS_WARM_UP_SECONDS);
  limits_meet(run);
  for (;;) {
    while (tail - head < size) {
      tail = atomic_load_explicit(&shared->tail, memory_order_acquire);
      if (tail - head < size) peers_relax();
    }
    if (peers_sum_words(shared->ring + (head & mask), size) != peers_expected_sum(size, sequence)) {
      peers_die("words: message %llu is damaged", (unsigned long long)sequence);
    }
    head += size;
    atomic_store_explicit(&shared->head, head, memory_order_release);
    if (++sequence % (size <= 1024 ? 64 : 1) != 0) continue;
    uint64_t now = peers_ticks();
    if (now < next) continue;
    if (begin != 0) {
      shared->value = (double)((sequence - counted) * size) / ((double)(now - begin) * peers_ns_per_tick / 1e9);
      shared->messages = sequence;
      atomic_store(&shared->stop, 1);
      return;
    }
    begin = now;
    counted = sequence;
    next = now + peers_ticks_in(run->seconds);
  }
}

// MARK: - Page faults

#define FAULT_PAGES 4096

static int new_memory(void) {
  int fd = memfd_create("peers-limits", MFD_CLOEXEC);
  if (fd < 0 || ftruncate(fd, FAULT_PAGES * 4096) != 0) peers_die("cannot make shared memory");
  return fd;
}

static uint8_t *map(int fd, int flags) {
  void *memory = mmap(NULL, FAULT_PAGES * 4096, PROT_READ | PROT_WRITE, MAP_SHARED | flags, fd, 0);
  if (memory == MAP_FAILED) peers_die("cannot map shared memory");
  return memory;
}

/// Records the time of the first touch of each page, once through.
static void touch(struct limits_run *run, uint8_t *memory, bool records) {
  for (size_t i = 0; i < FAULT_PAGES; i++) {
    uint64_t before = peers_ticks();
    *(volatile uint8_t *)(memory + i * 4096) = 1;
    if (records) peers_record(&run->shared->latency, peers_ticks() - before);
  }
}

static void fault(struct limits_run *run, bool allocates) {
  limits_meet(run);
  for (uint64_t end = peers_now_ns() + (uint64_t)(run->seconds * 1e9); peers_now_ns() < end;) {
    int fd = new_memory();
    uint8_t *first = map(fd, 0), *second = map(fd, 0);
    touch(run, first, allocates);
    touch(run, second, !allocates);
    munmap(first, FAULT_PAGES * 4096);
    munmap(second, FAULT_PAGES * 4096);
    close(fd);
  }
}

void fault_allocating(struct limits_run *run) { fault(run, true); }

void fault_mapping(struct limits_run *run) { fault(run, false); }

/// The whole mapping at once, per page. One sample per mapping.
void map_populated(struct limits_run *run) {
  limits_meet(run);
  for (uint64_t end = peers_now_ns() + (uint64_t)(run->seconds * 1e9); peers_now_ns() < end;) {
    int fd = new_memory();
    uint64_t before = peers_ticks();
    uint8_t *memory = map(fd, MAP_POPULATE);
    peers_record(&run->shared->latency, (peers_ticks() - before) / FAULT_PAGES);
    munmap(memory, FAULT_PAGES * 4096);
    close(fd);
  }
}
