// Threads: started, placed on processors, scheduled.

#define _GNU_SOURCE
#include "CSupport.h"
#include "threads.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/futex.h>

_Static_assert((int)CSUPPORT_SCHEDULE_NORMAL == SCHED_OTHER, "");
_Static_assert((int)CSUPPORT_SCHEDULE_FIFO == SCHED_FIFO, "");
_Static_assert((int)CSUPPORT_SCHEDULE_ROUND_ROBIN == SCHED_RR, "");
_Static_assert((int)CSUPPORT_SCHEDULE_BATCH == SCHED_BATCH, "");

// ---- placing --------------------------------------------------------------------------------------------------------

enum { BITS_PER_WORD = 8 * sizeof(unsigned long) };

static bool contains(const struct processor_set *set, int processor) {
  return processor >= 0 && processor < PROCESSOR_SET_BITS &&
         (set->words[processor / BITS_PER_WORD] >> processor % BITS_PER_WORD & 1) != 0;
}

static int get_processors(struct processor_set *set) {
  *set = (struct processor_set){0};
  return syscall(SYS_sched_getaffinity, 0, sizeof *set, set) < 0 ? -errno : 0;
}

static int set_processors(const struct processor_set *set) {
  return syscall(SYS_sched_setaffinity, 0, sizeof *set, set) < 0 ? -errno : 0;
}

/// Of this thread, which may be placed only once: it is never given back.
static _Thread_local struct processor_set *before_placement;

const struct processor_set *unplaced_processors(void) { return before_placement; }

/// The kernel takes those of the set that the process may use, and says nothing of the others.
static int place(struct csupport_placement *placement) {
  struct processor_set wanted = {0}, actual;
  for (size_t index = 0; index < placement->processor_count; index += 1) {
    const int processor = placement->processors[index];
    if (processor < 0 || processor >= PROCESSOR_SET_BITS) continue;
    wanted.words[processor / BITS_PER_WORD] |= 1ul << processor % BITS_PER_WORD;
  }
  const int result = set_processors(&wanted);
  // EINVAL: there is none among them.
  if (result < 0 && result != -EINVAL) return result;
  if (result < 0) {
    actual = (struct processor_set){0};
  } else {
    const int found = get_processors(&actual);
    if (found < 0) return found;
  }
  size_t missing = 0;
  for (size_t index = 0; index < placement->processor_count; index += 1) {
    const int processor = placement->processors[index];
    if (!contains(&actual, processor)) placement->processors[missing++] = processor;
  }
  placement->missing_count = missing;
  return missing > 0 ? -EINVAL : 0;
}

/// The first version of the kernel's struct. The C library has it since 2.41.
struct scheduling_attributes {
  uint32_t size;
  uint32_t policy;
  uint64_t flags;
  int32_t nice;
  uint32_t priority;
  uint64_t runtime, deadline, period;
};
_Static_assert(sizeof(struct scheduling_attributes) == 48, "SCHED_ATTR_SIZE_VER0");

static int schedule(const struct csupport_placement *placement) {
  // What this thread starts, in handlers of the program's, is not meant.
  enum { RESET_ON_FORK = 1 };
  const struct scheduling_attributes attributes = {
      .size = sizeof attributes,
      .policy = (uint32_t)placement->scheduling,
      .flags = RESET_ON_FORK,
      .nice = placement->nice,
      .priority = (uint32_t)placement->priority,
  };
  return syscall(SYS_sched_setattr, 0, &attributes, 0) < 0 ? -errno : 0;
}

static int place_and_schedule(struct csupport_placement *placement) {
  placement->failed_step = CSUPPORT_PLACEMENT_PROCESSORS;
  if (placement->processors != NULL) {
    struct processor_set *before = malloc(sizeof *before);
    if (before == NULL) return -ENOMEM;
    int result = get_processors(before);
    if (result >= 0) result = place(placement);
    if (result < 0) {
      free(before);
      return result;
    }
    before_placement = before;
  }
  placement->failed_step = CSUPPORT_PLACEMENT_SCHEDULING;
  return placement->scheduling == CSUPPORT_SCHEDULE_AS_BEFORE ? 0 : schedule(placement);
}

// ---- starting -------------------------------------------------------------------------------------------------------

enum { THREAD_NAME_BYTES = 16 };  // with the terminating zero; the kernel keeps no more

/// Where whoever starts a placed thread waits for what came of it.
struct placing {
  struct csupport_placement *placement;
  int result;
  _Atomic uint32_t is_done;
};

struct start {
  void (*body)(void *);
  void *argument;
  char name[THREAD_NAME_BYTES];
  struct placing *placing;  // or NULL
  bool has_processors;      // otherwise it has those of its maker, as the kernel wants it
  struct processor_set processors;
};

/// Returns whether the thread is to go on.
static bool get_into_place(struct placing *placing) {
  const int result = place_and_schedule(placing->placement);
  placing->result = result;
  // Release, with the wake-up: pairs with the acquire in wait_for_placing; from here on, all of that is the other thread's.
  atomic_store_explicit(&placing->is_done, 1, memory_order_release);
  syscall(SYS_futex, &placing->is_done, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, NULL, NULL, 0);
  return result >= 0;
}

static int wait_for_placing(struct placing *placing) {
  // Acquire: pairs with the release in get_into_place.
  while (atomic_load_explicit(&placing->is_done, memory_order_acquire) == 0) {
    syscall(SYS_futex, &placing->is_done, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 0, NULL, NULL, 0);
  }
  return placing->result;
}

static void *run(void *opaque) {
  struct start *start = opaque;
  void (*const body)(void *) = start->body;
  void *const argument = start->argument;
  struct placing *const placing = start->placing;
  pthread_setname_np(pthread_self(), start->name);
  // If that is refused, it shares its maker's place.
  if (start->has_processors) set_processors(&start->processors);
  free(start);
  const bool goes_on = placing == NULL || get_into_place(placing);
  if (goes_on) body(argument);
  free(before_placement);
  before_placement = NULL;
  return NULL;
}

static int start_thread(const char *name, struct placing *placing, void (*body)(void *), void *argument) {
  struct start *start = calloc(1, sizeof *start);
  if (start == NULL) return -ENOMEM;
  start->body = body;
  start->argument = argument;
  start->placing = placing;
  start->has_processors = before_placement != NULL;
  if (before_placement != NULL) start->processors = *before_placement;
  memcpy(start->name, name, strnlen(name, THREAD_NAME_BYTES - 1));

  // A signal that a thread's own fault raises ends the process at once if it is blocked, past any crash reporter.
  sigset_t blocked;
  sigfillset(&blocked);
  const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS};
  for (size_t index = 0; index < sizeof faults / sizeof *faults; index += 1) sigdelset(&blocked, faults[index]);

  pthread_attr_t attributes;
  pthread_t thread;
  int error = pthread_attr_init(&attributes);
  if (error == 0) {
    error = pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    // The new thread inherits this one's mask. (A mask among its attributes would do, but AddressSanitizer's
    // pthread_create puts the creator's in its place.)
    sigset_t own;
    if (error == 0) error = pthread_sigmask(SIG_SETMASK, &blocked, &own);
    if (error == 0) {
      error = pthread_create(&thread, &attributes, run, start);
      pthread_sigmask(SIG_SETMASK, &own, NULL);
    }
    pthread_attr_destroy(&attributes);
  }
  if (error != 0) free(start);
  return -error;
}

int csupport_thread_start(const char *name, void (*body)(void *), void *argument) {
  return start_thread(name, NULL, body, argument);
}

int csupport_thread_start_placed(const char *name, struct csupport_placement *placement, void (*body)(void *),
                                 void *argument) {
  struct placing placing = {.placement = placement};
  placement->failed_step = CSUPPORT_PLACEMENT_THREAD;
  placement->missing_count = 0;
  const int result = start_thread(name, &placing, body, argument);
  return result < 0 ? result : wait_for_placing(&placing);
}

uint64_t csupport_thread_id(void) {
  // The threads of a forked child can lie where others lay in the parent. Addresses have at most 47 bits where marks begin.
  return (uint64_t)pthread_self() ^ (uint64_t)csupport_process_mark() << 46;
}

int csupport_usable_processors(void) {
  // The kernel refuses a set that is too small for the processors it could ever have.
  for (int capacity = 1024; capacity <= 1 << 20; capacity *= 4) {
    cpu_set_t *set = CPU_ALLOC(capacity);
    if (set == NULL) break;
    size_t bytes = CPU_ALLOC_SIZE(capacity);
    CPU_ZERO_S(bytes, set);
    int result = sched_getaffinity(0, bytes, set);
    int error = errno;
    int count = CPU_COUNT_S(bytes, set);
    CPU_FREE(set);
    if (result == 0 && count > 0) return count;
    if (result == 0 || error != EINVAL) break;
  }
  long online = sysconf(_SC_NPROCESSORS_ONLN);
  return online < 1 ? 1 : (int)online;
}
