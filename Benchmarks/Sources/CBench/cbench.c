#define _GNU_SOURCE
#include "CBench.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static uint64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

// MARK: - Clock

static pthread_once_t calibrated = PTHREAD_ONCE_INIT;
static double ns_per_tick;

static void calibrate(void) {
  struct timespec pause = {0, 30000000};
  uint64_t ns = now_ns(), ticks = cbench_ticks();
  nanosleep(&pause, NULL);
  uint64_t ns_after = now_ns(), ticks_after = cbench_ticks();
  ns_per_tick = (double)(ns_after - ns) / (double)(ticks_after - ticks);
}

double cbench_ns_per_tick(void) {
  pthread_once(&calibrated, calibrate);
  return ns_per_tick;
}

// MARK: - Pinning

int cbench_processors(void) { return (int)sysconf(_SC_NPROCESSORS_ONLN); }
int cbench_current_cpu(void) { return sched_getcpu(); }

int cbench_pin(int cpu) {
  cpu_set_t wanted, actual;
  CPU_ZERO(&wanted);
  CPU_SET(cpu, &wanted);
  if (sched_setaffinity(0, sizeof wanted, &wanted) != 0) return -errno;
  if (sched_getaffinity(0, sizeof actual, &actual) != 0) return -errno;
  return CPU_EQUAL(&wanted, &actual) && sched_getcpu() == cpu ? 0 : -EIO;
}

int cbench_unpin(void) {
  cpu_set_t all;
  CPU_ZERO(&all);
  for (int cpu = 0; cpu < cbench_processors() && cpu < CPU_SETSIZE; cpu++) CPU_SET(cpu, &all);
  return sched_setaffinity(0, sizeof all, &all) != 0 ? -errno : 0;
}

// MARK: - The probe

struct bounce {
  _Alignas(128) _Atomic uint32_t there;
  _Alignas(128) _Atomic uint32_t back;
  _Alignas(128) _Atomic int ready;  // counts the threads that are pinned; negative: one is not
  int answering_cpu;
  uint32_t round_trips;
};

static void *answer(void *argument) {
  struct bounce *bounce = argument;
  int result = cbench_pin(bounce->answering_cpu);
  if (result < 0) {
    atomic_store(&bounce->ready, result);
    return NULL;
  }
  atomic_store(&bounce->ready, 1);
  for (uint32_t next = 1; next <= bounce->round_trips; next++) {
    while (atomic_load_explicit(&bounce->there, memory_order_acquire) != next) cbench_relax();
    atomic_store_explicit(&bounce->back, next, memory_order_release);
  }
  return NULL;
}

static int ascending(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

enum { PARTS = 10 };

double cbench_bounce(int first_cpu, int second_cpu, uint32_t round_trips) {
  cpu_set_t before;
  if (sched_getaffinity(0, sizeof before, &before) != 0) return -errno;
  struct bounce *bounce = aligned_alloc(128, sizeof *bounce);
  if (bounce == NULL) return -ENOMEM;
  memset((void *)bounce, 0, sizeof *bounce);
  bounce->answering_cpu = second_cpu;
  bounce->round_trips = round_trips / PARTS * PARTS;
  double result = cbench_pin(first_cpu);
  pthread_t thread;
  if (result >= 0 && (result = -pthread_create(&thread, NULL, answer, bounce)) >= 0) {
    while (atomic_load(&bounce->ready) == 0) sched_yield();
    if (atomic_load(&bounce->ready) < 0) {
      result = atomic_load(&bounce->ready);
    } else {
      double parts[PARTS];
      uint32_t next = 1;
      for (int part = 0; part < PARTS; part++) {
        uint64_t began = now_ns();
        for (uint32_t i = 0; i < bounce->round_trips / PARTS; i++, next++) {
          atomic_store_explicit(&bounce->there, next, memory_order_release);
          while (atomic_load_explicit(&bounce->back, memory_order_acquire) != next) cbench_relax();
        }
        parts[part] = (double)(now_ns() - began) / (bounce->round_trips / PARTS);
      }
      qsort(parts, PARTS, sizeof parts[0], ascending);
      result = (parts[PARTS / 2 - 1] + parts[PARTS / 2]) / 2;
    }
    pthread_join(thread, NULL);
  }
  sched_setaffinity(0, sizeof before, &before);
  free(bounce);
  return result;
}

// MARK: - Spinners

pid_t cbench_start_spinner(int cpu) {
  pid_t parent = getpid();
  pid_t child = fork();
  if (child != 0) return child < 0 ? -errno : child;
  // Nothing but plain system calls from here on: other threads of the parent may have held any lock.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  struct sched_param parameter = {0};
  if (getppid() != parent || cbench_pin(cpu) < 0 || sched_setscheduler(0, SCHED_IDLE, &parameter) != 0) _exit(1);
  for (;;) cbench_relax();
}

void cbench_stop_spinner(pid_t spinner) {
  if (spinner <= 0) return;
  kill(spinner, SIGKILL);
  while (waitpid(spinner, NULL, 0) < 0 && errno == EINTR) continue;
}

// MARK: - Messages in place

void cbench_fill_words(void *message, size_t bytes, uint64_t sequence) {
  uint64_t *words = message;
  for (size_t i = 0; i < bytes / 8; i++) words[i] = sequence + i;
}

uint64_t cbench_sum_words(const void *message, size_t bytes) {
  const uint64_t *words = message;
  uint64_t sum = 0;
  for (size_t i = 0; i < bytes / 8; i++) sum += words[i];
  return sum;
}

uint64_t cbench_expected_sum(size_t bytes, uint64_t sequence) {
  uint64_t count = bytes / 8;
  return count * sequence + count * (count - 1) / 2;
}

// MARK: - The process

int64_t cbench_cpu_ns(pid_t process) {
  clockid_t clock;
  struct timespec spent;
  int result = clock_getcpuclockid(process, &clock);
  if (result != 0) return -result;
  if (clock_gettime(clock, &spent) != 0) return -errno;
  return (int64_t)spent.tv_sec * 1000000000 + spent.tv_nsec;
}

int64_t cbench_preempted(void) {
  struct rusage usage;
  return getrusage(RUSAGE_SELF, &usage) != 0 ? -errno : usage.ru_nivcsw;
}

int cbench_thread_costs(struct cbench_thread_costs *costs) {
  struct rusage usage;
  if (getrusage(RUSAGE_THREAD, &usage) != 0) return -errno;
  *costs = (struct cbench_thread_costs){
      .minor_faults = usage.ru_minflt, .major_faults = usage.ru_majflt, .involuntary_switches = usage.ru_nivcsw};
  return 0;
}

struct cbench_call_count {
  _Atomic int listener;  // 0: not yet; negative: there will be none
  _Atomic int64_t calls;
};

/// Lets each call go that comes, and counts it.
static void *count_calls(void *opaque) {
  struct cbench_call_count *count = opaque;
  // The thread that is counted cannot wake this one: that would be a call.
  while (atomic_load(&count->listener) == 0) usleep(100);
  const int listener = atomic_load(&count->listener);
  while (listener > 0) {
    struct pollfd entry = {.fd = listener, .events = POLLIN};
    while (poll(&entry, 1, -1) < 0 && errno == EINTR) continue;
    if ((entry.revents & POLLIN) == 0) break;
    struct seccomp_notif call = {0};
    if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &call) < 0) continue;
    atomic_fetch_add(&count->calls, 1);
    struct seccomp_notif_resp answer = {.id = call.id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
    ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
  }
  return NULL;
}

struct cbench_call_count *cbench_count_calls(void) {
  struct cbench_call_count *count = calloc(1, sizeof *count);
  if (count == NULL) return NULL;
  pthread_t thread;
  // Before the filter, which it would inherit; and anywhere but on the processor of the thread that is counted.
  cpu_set_t own;
  const int known = sched_getaffinity(0, sizeof own, &own);
  cbench_unpin();
  const int error = pthread_create(&thread, NULL, count_calls, count);
  if (known == 0) sched_setaffinity(0, sizeof own, &own);
  if (error != 0) return NULL;
  pthread_detach(thread);
  struct sock_filter steps[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF)};
  const struct sock_fprog program = {.len = 1, .filter = steps};
  long fd = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  if (fd == 0) fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
  atomic_store(&count->listener, (int)fd);
  return fd > 0 ? count : NULL;
}

int64_t cbench_calls(const struct cbench_call_count *count) { return atomic_load(&count->calls); }

int64_t cbench_raise_descriptor_limit(uint64_t wanted) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return -errno;
  struct rlimit higher = {wanted, limit.rlim_max > wanted ? limit.rlim_max : wanted};
  if (limit.rlim_cur < wanted && setrlimit(RLIMIT_NOFILE, &higher) != 0) {  // Beyond the hard limit needs a privilege.
    higher.rlim_cur = higher.rlim_max = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &higher);
  }
  return getrlimit(RLIMIT_NOFILE, &limit) != 0 ? -errno : (int64_t)limit.rlim_cur;
}

int cbench_die_with_parent(void) { return prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 ? -errno : 0; }
