// What a process can do to those of another that sleep on a word that both can reach.

#define _GNU_SOURCE
#include "CTestSupport.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <unistd.h>

int ctest_move_sleepers(void *from, void *to) {
  const uint32_t expected = __atomic_load_n((uint32_t *)from, __ATOMIC_RELAXED);
  long result = syscall(SYS_futex, from, FUTEX_CMP_REQUEUE, 0, (void *)INT_MAX, to, expected);
  return result < 0 ? -errno : (int)result;
}
