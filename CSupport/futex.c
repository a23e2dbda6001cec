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

static int wait_for_word(const void *word, int operation, uint32_t expected, int64_t timeout_ns) {
  struct timespec limit = {0, 0};
  if (timeout_ns >= 0) {
    limit.tv_sec = timeout_ns / 1000000000;
    limit.tv_nsec = timeout_ns % 1000000000;
  }
  // The limit is relative, and measured by CLOCK_MONOTONIC.
  long result = syscall(SYS_futex, word, operation, expected, timeout_ns < 0 ? NULL : &limit, NULL, 0);
  return result < 0 ? -errno : 0;
}

int csupport_futex_wait(const void *word, uint32_t expected, int64_t timeout_ns) {
  return wait_for_word(word, FUTEX_WAIT, expected, timeout_ns);
}

int csupport_futex_wake_all(void *word) {
  // All of them, even where there should be only one: a stale io_uring waiter could swallow a single wake.
  long result = syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
  return result < 0 ? -errno : (int)result;
}

// From Linux 5.16, which the headers may not know.
#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif

/// `struct futex_waitv`
struct wait_for {
  uint64_t value;
  uint64_t address;
  uint32_t flags;
  uint32_t reserved;
};

enum {
  WORD_OF_32_BITS = 2,
  // How long a thread that can sleep on the shared word alone is deaf to the private one.
  DEAF_NS = 50 * 1000 * 1000,
};

/// The older way: sleeps on the shared word, and looks at the private one now and then.
static int wait_in_steps(const void *shared, uint32_t expected, const void *own, uint32_t ticket, uint64_t deadline) {
  while (__atomic_load_n((const uint32_t *)own, __ATOMIC_ACQUIRE) == ticket) {
    const uint64_t now = csupport_monotonic_ns();
    if (now >= deadline) return -ETIMEDOUT;
    const uint64_t left = deadline - now;
    int result = csupport_futex_wait(shared, expected, left < DEAF_NS ? (int64_t)left : DEAF_NS);
    if (result != -ETIMEDOUT) return result;
  }
  return -EAGAIN;
}

int csupport_futex_wait_either(
    const void *shared, uint32_t expected, const void *own, uint32_t ticket, int64_t timeout_ns) {
  const struct wait_for words[2] = {
      {expected, (uintptr_t)shared, WORD_OF_32_BITS, 0},
      {ticket, (uintptr_t)own, WORD_OF_32_BITS | FUTEX_PRIVATE_FLAG, 0},
  };
  // The limit is a time, here.
  uint64_t deadline = UINT64_MAX;
  if (timeout_ns >= 0) deadline = csupport_monotonic_ns() + (uint64_t)timeout_ns;
  const struct timespec limit = {(time_t)(deadline / 1000000000u), (long)(deadline % 1000000000u)};
  long result =
      syscall(SYS_futex_waitv, words, 2, 0, timeout_ns < 0 ? NULL : &limit, CLOCK_MONOTONIC);
  if (result >= 0) return 0;
  // EPERM is a filter's word for a call that it does not know. Not remembered: filters may be a thread's own.
  if (errno == ENOSYS || errno == EPERM) return wait_in_steps(shared, expected, own, ticket, deadline);
  return -errno;
}

int csupport_private_wait(const void *word, uint32_t expected, int64_t timeout_ns) {
  return wait_for_word(word, FUTEX_WAIT_PRIVATE, expected, timeout_ns);
}

static int wake_private(void *word, int count) {
  long result = syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
  return result < 0 ? -errno : (int)result;
}

int csupport_private_wake_all(void *word) { return wake_private(word, INT_MAX); }

int csupport_private_wake_one(void *word) { return wake_private(word, 1); }

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
