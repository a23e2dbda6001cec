// Buffers: memory that travels in messages. Made, frozen or shared for good, recognised, mapped. For a channel's own memory,
// see memory.c.

#define _GNU_SOURCE
#include "CSupport.h"
#include "mappings.h"
#include "new_descriptor.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef F_SEAL_EXEC  // Linux 6.3
#define F_SEAL_EXEC 0x0020
#endif
#ifndef MADV_POPULATE_READ  // Linux 5.14
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

enum {
  SIZE_SEALS = F_SEAL_SHRINK | F_SEAL_GROW,
  SHARED_SEALS = SIZE_SEALS | F_SEAL_SEAL,
  FROZEN_SEALS = SHARED_SEALS | F_SEAL_WRITE,
};

int csupport_buffer_create(uint64_t bytes) {
  const int fd = csupport_memory_create("message-buffer", bytes);
  if (fd < 0) return fd;
  return fcntl(fd, F_ADD_SEALS, SIZE_SEALS) < 0 ? fail_closing(fd, errno) : fd;
}

int csupport_buffer_freeze(int fd) { return fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SEAL) < 0 ? -errno : 0; }

int csupport_buffer_share(int fd) { return fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL) < 0 ? -errno : 0; }

int csupport_buffer_inspect(int fd, struct csupport_file_facts *facts) {
  const int seals = csupport_memory_seals(fd);
  if (seals < 0) return seals == -EINVAL ? CSUPPORT_BUFFER_FOREIGN : seals;
  int kind;
  switch (seals & ~F_SEAL_EXEC) {
    case FROZEN_SEALS: kind = CSUPPORT_BUFFER_FROZEN; break;
    case SHARED_SEALS: kind = CSUPPORT_BUFFER_SHARED; break;
    default: return CSUPPORT_BUFFER_FOREIGN;  // also F_SEAL_FUTURE_WRITE: its maker goes on writing
  }
  const int result = csupport_memory_facts(fd, facts);
  return result <= 0 ? result : kind;
}

int csupport_buffer_map(int fd, size_t bytes, enum csupport_buffer_use use, void **address) {
  switch (use) {
    case CSUPPORT_BUFFER_FOR_ITS_MAKER:
    case CSUPPORT_BUFFER_FOR_ALL: {
      const int result = map_shared(fd, 0, bytes, false, address);
      // A child that is being forked would have a writable mapping until it runs, and keep the buffer from being frozen.
      if (result == 0 && use == CSUPPORT_BUFFER_FOR_ITS_MAKER) madvise(*address, bytes, MADV_DONTFORK);
      return result;
    }
    case CSUPPORT_BUFFER_FOR_READING: break;
  }
  *address = NULL;
  // Private: before 6.7, a file that is sealed against writing cannot be mapped shared at all, not even for reading. It is
  // the same pages. They change no more, so a forked child may keep them as it keeps what it has on its heap.
  void *mapped = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, fd, 0);
  if (mapped == MAP_FAILED) return -errno;
  // Pages that are not there, because whoever froze this had punched holes in it and hidden them behind its end, are taken
  // here: if they cannot be had, that is an error and no signal. After this, they can go nowhere but to swap space.
  if (madvise(mapped, bytes, MADV_POPULATE_READ) < 0 && errno != EINVAL && errno != EINTR) {
    const int error = errno;
    munmap(mapped, bytes);
    return error == EFAULT ? -ENOMEM : -error;
  }
  *address = mapped;
  return 0;
}

int csupport_buffer_unmap(void *address, size_t bytes, enum csupport_buffer_use use) {
  if (use != CSUPPORT_BUFFER_FOR_READING) return csupport_memory_unmap(address, bytes);
  return munmap(address, bytes) < 0 ? -errno : 0;
}

int csupport_buffer_populate(int fd, void *address, size_t bytes, bool wants_huge_pages) {
  if (wants_huge_pages) madvise(address, bytes, MADV_HUGEPAGE);  // a wish, which the system's policy may not grant
  const int error = madvise(address, bytes, MADV_POPULATE_WRITE) < 0 ? errno : 0;
  if (error == EINVAL) return csupport_memory_reserve(fd, 0, bytes);
  return error == EFAULT ? -ENOMEM : -error;
}

void csupport_copy_shared(void *target, const void *source, size_t bytes) {
  csupport_copy(target, source, bytes);
  // Whoever looks at the copy looks at that, and not at the source once more.
  csupport_compiler_barrier();
}
