// Sleeping on a word that another process may wake, the fences between such processes, and the clock.

#define _GNU_SOURCE
#include "CSupport.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

uint64_t csupport_monotonic_ns(void) {
  // Cannot fail: the clock exists on every Linux, and the address is valid.
  struct timespec now = {0, 0};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int csupport_futex_wait(const void *word, uint32_t expected, int64_t timeout_ns) {
  struct timespec limit = {0, 0};
  if (timeout_ns >= 0) {
    limit.tv_sec = timeout_ns / 1000000000;
    limit.tv_nsec = timeout_ns % 1000000000;
  }
  // FUTEX_WAIT takes a relative limit, measured by CLOCK_MONOTONIC.
  long result = syscall(SYS_futex, word, FUTEX_WAIT, expected, timeout_ns < 0 ? NULL : &limit, NULL, 0);
  return result < 0 ? -errno : 0;
}

int csupport_futex_wake_all(void *word) {
  // All of them, even where there should be only one: a stale io_uring waiter could swallow a single wake.
  long result = syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
  return result < 0 ? -errno : (int)result;
}

static int membarrier(int command) {
  long result = syscall(SYS_membarrier, command, 0, 0);
  return result < 0 ? -errno : (int)result;
}

int csupport_membarrier_register(void) { return membarrier(MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED); }

int csupport_membarrier_global(void) { return membarrier(MEMBARRIER_CMD_GLOBAL_EXPEDITED); }

int csupport_membarrier_is_available(void) {
  const int needed = MEMBARRIER_CMD_GLOBAL_EXPEDITED | MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED;
  int commands = membarrier(MEMBARRIER_CMD_QUERY);
  return commands >= 0 && (commands & needed) == needed;
}
