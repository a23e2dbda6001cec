// Lets the kernel refuse system calls, with seccomp filters.

#define _GNU_SOURCE
#include "CTestSupport.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { MOST_STEPS = 6 };

/// The steps of one refusal; where it does not apply, they go on to what follows.
static size_t add(struct sock_filter *steps, const struct ctest_refusal *refusal) {
  const bool looks = refusal->argument >= 0;
  size_t count = 0;
  steps[count++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
  steps[count++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)refusal->call, 0, looks ? 4 : 1);
  if (looks) {
    // Supported processors have the low half first.
    const size_t offset = offsetof(struct seccomp_data, args) + sizeof(uint64_t) * (size_t)refusal->argument;
    steps[count++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset);
    steps[count++] = (struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, refusal->mask);
    steps[count++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, refusal->value, 0, 1);
  }
  const uint32_t verdict = SECCOMP_RET_ERRNO | ((uint32_t)refusal->error & SECCOMP_RET_DATA);
  steps[count++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, verdict);
  return count;
}

int ctest_refuse(const struct ctest_refusal *refusals, size_t count, bool whole_process) {
  struct sock_filter *steps = calloc(MOST_STEPS * count + 1, sizeof *steps);
  if (steps == NULL) return -ENOMEM;
  size_t length = 0;
  for (size_t index = 0; index < count; index += 1) length += add(steps + length, &refusals[index]);
  steps[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);

  const struct sock_fprog program = {.len = (unsigned short)length, .filter = steps};
  const unsigned flags = whole_process ? SECCOMP_FILTER_FLAG_TSYNC : 0;
  long result = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  if (result == 0) result = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
  const int error = errno;
  free(steps);
  // A positive number names a thread that could not be given the filter.
  return result == 0 ? 0 : result > 0 ? -EBUSY : -error;
}
