// Memory that is there before it is touched, and stays.

#define _GNU_SOURCE
#include "CSupport.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE  // Linux 5.14
#define MADV_POPULATE_WRITE 23
#endif

int csupport_memory_fault_in(void *address, size_t bytes) {
  // For writing: some processors note the first write to a page by a fault of its own.
  if (madvise(address, bytes, MADV_POPULATE_WRITE) == 0) return 0;
  // A page that cannot be had; whoever touches it would be sent a signal.
  return errno == EFAULT ? -ENOMEM : -errno;
}

/// Whether locking so many bytes more exceeds what this process may lock. A privilege makes the limit void, and then the kernel
/// would not have refused.
static bool is_over_limit(size_t bytes, uint64_t limit) {
  uint64_t locked_kilobytes = 0;
  // Without /proc, the limit is by far the likeliest reason.
  if (csupport_process_field(getpid(), "VmLck", 10, &locked_kilobytes) < 0) return true;
  return locked_kilobytes * 1024 + bytes > limit;
}

int csupport_memory_lock(void *address, size_t bytes, uint64_t *limit) {
  *limit = UINT64_MAX;
  if (mlock(address, bytes) == 0) return 0;
  const int error = errno;
  // EAGAIN: a page could not be had. The others are locked, and all that comes to be mapped here would be.
  munlock(address, bytes);
  struct rlimit allowed;
  // EPERM: nothing at all may be locked. ENOMEM: not so much; or there are too many mappings.
  if ((error == ENOMEM || error == EPERM) && getrlimit(RLIMIT_MEMLOCK, &allowed) == 0 &&
      allowed.rlim_cur != RLIM_INFINITY && is_over_limit(bytes, allowed.rlim_cur)) {
    *limit = allowed.rlim_cur;
  }
  return -error;
}

int csupport_memory_unlock(void *address, size_t bytes) { return munlock(address, bytes) < 0 ? -errno : 0; }
