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
/// Guards the table, and is held from mmap() until the mapping is in it: a fork finds all or nothing. No other lock is
/// taken under it but the allocator's, which looks after itself in a fork, and is held last there.
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static struct mapping **bucket_of(const void *address) {
  const uint64_t page = (uintptr_t)address >> PAGE_BITS;
  return &mappings[page * 0x9e3779b97f4a7c15ull >> 50];
}

int csupport_memory_map(int fd, uint64_t offset, size_t bytes, void **address) {
  *address = NULL;
  if (offset > (uint64_t)INT64_MAX) return -EOVERFLOW;
  struct mapping *mapping = malloc(sizeof *mapping);
  if (mapping == NULL) return -ENOMEM;
  pthread_mutex_lock(&mutex);
  void *mapped = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)offset);
  const int error = errno;
  if (mapped != MAP_FAILED) {
    struct mapping **bucket = bucket_of(mapped);
    *mapping = (struct mapping){.next = *bucket, .address = mapped, .bytes = bytes, .has_header = offset == 0};
    *bucket = mapping;
  }
  pthread_mutex_unlock(&mutex);
  if (mapped == MAP_FAILED) {
    free(mapping);
    // See access_error() in memory.c.
    return error == EBADF && fcntl(fd, F_GETFL) >= 0 ? -EACCES : -error;
  }
  *address = mapped;
  return 0;
}

int csupport_memory_unmap(void *address, size_t bytes) {
  pthread_mutex_lock(&mutex);
  struct mapping **link = bucket_of(address);
  while (*link != NULL && (*link)->address != address) link = &(*link)->next;
  struct mapping *mapping = *link;
  const int result = munmap(address, bytes) < 0 ? -errno : 0;
  // What could not be unmapped is still to be given up.
  if (result == 0 && mapping != NULL) *link = mapping->next;
  pthread_mutex_unlock(&mutex);
  if (result == 0) free(mapping);
  return result;
}

// ---- in a forked child ----------------------------------------------------------------------------------------------

void hold_mappings(void) { pthread_mutex_lock(&mutex); }

void release_mappings(void) { pthread_mutex_unlock(&mutex); }

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
