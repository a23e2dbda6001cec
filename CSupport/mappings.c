// Memory that two processes map, and what becomes of it in a process that is forked off without an exec.

#define _GNU_SOURCE
#include "mappings.h"

#include "CSupport.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

struct mapping {
  struct mapping *next;
  void *address;
  size_t bytes;
  bool has_header;  // a channel's first pages
};

/// By address. What maps a hundred thousand pieces looks at a few of them.
enum { BUCKETS = 1 << 14, PAGE_BITS = 12 };
static struct mapping *mappings[BUCKETS];
/// Held for reading from mmap() until the mapping is in the table, and likewise at its end, by any number of threads: the calls
/// may take long, and nobody has to wait for another's. For writing by whoever forks: a fork finds all or nothing.
///
/// Under it, the locks of the buckets are taken; no other but the allocator's, which looks after itself in a fork, and is held last
/// there.
static pthread_rwlock_t lock = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;

/// For a few instructions each. Many buckets share one.
enum { BUCKET_LOCKS = 64 };
static pthread_mutex_t bucket_locks[BUCKET_LOCKS] = {[0 ... BUCKET_LOCKS - 1] = PTHREAD_MUTEX_INITIALIZER};

static size_t bucket_of(const void *address) {
  const uint64_t page = (uintptr_t)address >> PAGE_BITS;
  return page * 0x9e3779b97f4a7c15ull >> 50;
}

static void add(struct mapping *mapping) {
  const size_t bucket = bucket_of(mapping->address);
  pthread_mutex_lock(&bucket_locks[bucket % BUCKET_LOCKS]);
  mapping->next = mappings[bucket];
  mappings[bucket] = mapping;
  pthread_mutex_unlock(&bucket_locks[bucket % BUCKET_LOCKS]);
}

static struct mapping *find(const void *address) {
  const size_t bucket = bucket_of(address);
  pthread_mutex_lock(&bucket_locks[bucket % BUCKET_LOCKS]);
  struct mapping *mapping = mappings[bucket];
  while (mapping != NULL && mapping->address != address) mapping = mapping->next;
  pthread_mutex_unlock(&bucket_locks[bucket % BUCKET_LOCKS]);
  return mapping;
}

/// The object itself, and not what has its address: as soon as something is unmapped, the next may be there.
static void remove_mapping(const struct mapping *mapping) {
  const size_t bucket = bucket_of(mapping->address);
  pthread_mutex_lock(&bucket_locks[bucket % BUCKET_LOCKS]);
  struct mapping **link = &mappings[bucket];
  while (*link != mapping) link = &(*link)->next;
  *link = mapping->next;
  pthread_mutex_unlock(&bucket_locks[bucket % BUCKET_LOCKS]);
}

int map_shared(int fd, uint64_t offset, size_t bytes, bool has_header, void **address) {
  *address = NULL;
  if (offset > (uint64_t)INT64_MAX) return -EOVERFLOW;
  struct mapping *mapping = malloc(sizeof *mapping);
  if (mapping == NULL) return -ENOMEM;
  pthread_rwlock_rdlock(&lock);
  void *mapped = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)offset);
  const int error = errno;
  if (mapped != MAP_FAILED) {
    *mapping = (struct mapping){.address = mapped, .bytes = bytes, .has_header = has_header};
    add(mapping);
  }
  pthread_rwlock_unlock(&lock);
  if (mapped == MAP_FAILED) {
    free(mapping);
    // See access_error() in memory.c.
    return error == EBADF && fcntl(fd, F_GETFL) >= 0 ? -EACCES : -error;
  }
  *address = mapped;
  return 0;
}

int csupport_memory_map(int fd, uint64_t offset, size_t bytes, void **address) {
  return map_shared(fd, offset, bytes, offset == 0, address);
}

int csupport_memory_unmap(void *address, size_t bytes) {
  pthread_rwlock_rdlock(&lock);
  // Before it is gone: afterwards, there may be another.
  struct mapping *mapping = find(address);
  const int result = munmap(address, bytes) < 0 ? -errno : 0;
  // What could not be unmapped is still to be given up.
  const bool is_over = result == 0 && mapping != NULL;
  if (is_over) remove_mapping(mapping);
  pthread_rwlock_unlock(&lock);
  if (is_over) free(mapping);
  return result;
}

// ---- in a forked child ----------------------------------------------------------------------------------------------

void hold_mappings(void) { pthread_rwlock_wrlock(&lock); }

void release_mappings(void) { pthread_rwlock_unlock(&lock); }

/// Those that wait in the parent, and are counted in the lock, are not here.
void begin_mappings_anew(void) { lock = (pthread_rwlock_t)PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP; }

/// The other end seems to sleep: whoever writes into such a ring without a lock comes off the fast path to wake it, and
/// finds out there whose the ring is. (A reader finds nothing, which leads it off the fast path as well.)
static void seem_asleep(char *channel) {
  for (int lane = 0; lane < 2; lane += 1) {
    char *words = channel + CSUPPORT_LANES + lane * CSUPPORT_LANE_BYTES;
    *(uint32_t *)(words + CSUPPORT_LANE_MESSAGE_DOORBELL) = CSUPPORT_DOORBELL_ASLEEP;
  }
}

void give_up_mappings(void) {
  for (int bucket = 0; bucket < BUCKETS; bucket += 1) {
    for (struct mapping *mapping = mappings[bucket]; mapping != NULL; mapping = mapping->next) {
      const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE;
      void *mapped = mmap(mapping->address, mapping->bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
      if (mapped == MAP_FAILED) {
        // No memory for that: whoever touches it all the same must not touch the parent's.
        munmap(mapping->address, mapping->bytes);
      } else if (mapping->has_header && mapping->bytes >= CSUPPORT_CHANNEL_HEADER_BYTES) {
        seem_asleep(mapping->address);
      }
    }
  }
}
