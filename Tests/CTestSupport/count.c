// Counts what a thread costs the kernel: its system calls, with seccomp's notifications, and its page faults.

#define _GNU_SOURCE
#include "CTestSupport.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

struct ctest_call_count {
  _Atomic int listener;  // 0: not yet; negative: there will be none
  _Atomic long calls;
  _Atomic int last;
};

/// Lets each call go that comes, and counts it.
static void *count_calls(void *opaque) {
  struct ctest_call_count *count = opaque;
  // Whoever is counted cannot wake anybody: that would be a call.
  while (atomic_load(&count->listener) == 0) usleep(100);
  const int listener = atomic_load(&count->listener);
  while (listener > 0) {
    struct pollfd entry = {.fd = listener, .events = POLLIN};
    while (poll(&entry, 1, -1) < 0 && errno == EINTR) continue;
    if ((entry.revents & POLLIN) == 0) break;
    struct seccomp_notif call = {0};
    if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &call) < 0) continue;
    atomic_store(&count->last, call.data.nr);
    atomic_fetch_add(&count->calls, 1);
    struct seccomp_notif_resp answer = {.id = call.id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
    ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
  }
  return NULL;
}

struct ctest_call_count *ctest_count_calls(void) {
  struct ctest_call_count *count = calloc(1, sizeof *count);
  if (count == NULL) return NULL;
  count->last = -1;
  pthread_t thread;
  // Before the filter, which it would inherit.
  if (pthread_create(&thread, NULL, count_calls, count) != 0) return NULL;
  pthread_detach(thread);
  struct sock_filter steps[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF)};
  const struct sock_fprog program = {.len = 1, .filter = steps};
  long fd = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  if (fd == 0) fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
  atomic_store(&count->listener, (int)fd);
  return fd > 0 ? count : NULL;
}

long ctest_calls(const struct ctest_call_count *count) { return atomic_load(&count->calls); }
int ctest_last_call(const struct ctest_call_count *count) { return atomic_load(&count->last); }

long ctest_thread_faults(void) {
  struct rusage usage;
  return getrusage(RUSAGE_THREAD, &usage) < 0 ? -1 : usage.ru_minflt + usage.ru_majflt;
}

int ctest_thread_policy(void) { return sched_getscheduler(0) & ~SCHED_RESET_ON_FORK; }
int ctest_thread_nice(void) { return getpriority(PRIO_PROCESS, 0); }

int ctest_thread_priority(void) {
  struct sched_param parameter;
  return sched_getparam(0, &parameter) < 0 ? -errno : parameter.sched_priority;
}

int ctest_become_nobody(size_t lock_limit) {
  enum { NOBODY = 65534 };
  const struct rlimit none = {0, 0}, locked = {lock_limit, lock_limit};
  if (setrlimit(RLIMIT_MEMLOCK, &locked) < 0 || setrlimit(RLIMIT_RTPRIO, &none) < 0 || setrlimit(RLIMIT_NICE, &none) < 0) {
    return -errno;
  }
  // Of all threads at once; whoever has no privileges has none to give up.
  if (geteuid() == 0 && setresuid(NOBODY, NOBODY, NOBODY) < 0) return -errno;
  // It may still look at itself in /proc.
  return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) < 0 ? -errno : 0;
}
