// Starting programs.

#define _GNU_SOURCE
#include "CSupport.h"
#include "new_descriptor.h"
#include "threads.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

char *const *csupport_environment(void) { return environ; }

// What the new process does until it is another program. It runs in this process's memory meanwhile, while the thread
// that has started it stands still: it may use the kernel and its own stack, and nothing else. So it calls the kernel
// by itself: a sanitizer has its own versions of the C library's functions, which note down in that memory that the
// descriptors of this process were closed, its signal handlers removed, or that it has ended.

struct birth {
  const char *const *paths;
  char *const *argv;
  char *const *envp;
  const struct csupport_inherited_fd *fds;
  size_t fd_count;
  const struct csupport_surroundings *surroundings;
  pid_t parent;
  int *sources;  // room for a number per descriptor
  uint32_t name;  // for let_closers_go()
  const struct processor_set *processors;  // where it may run; NULL: where this thread may
  // Why there is no other program, and at which step; told through the memory that both have.
  int error;
  enum csupport_birth_step failed_step;
};

/// The dup3 calls are made one after the other, so a descriptor can be overwritten before it is its turn.
/// Returns whether `fds[index]` would be.
UNINSTRUMENTED static bool is_overwritten(const struct csupport_inherited_fd *fds, size_t index) {
  for (size_t earlier = 0; earlier < index; earlier += 1) {
    if (fds[earlier].child_fd == fds[index].parent_fd && fds[earlier].parent_fd != fds[index].parent_fd) return true;
  }
  return false;
}

UNINSTRUMENTED static int highest_number(const struct birth *birth) {
  int highest = STDERR_FILENO;
  for (size_t index = 0; index < birth->fd_count; index += 1) {
    if (birth->fds[index].child_fd > highest) highest = birth->fds[index].child_fd;
  }
  return highest;
}

/// Gives the descriptors their numbers. Whatever would be overwritten is copied out of the way first, to a number above
/// all those wanted. The table is the new process's own.
UNINSTRUMENTED static int place_descriptors(const struct birth *birth, int highest) {
  for (size_t index = 0; index < birth->fd_count; index += 1) {
    birth->sources[index] = birth->fds[index].parent_fd;
    if (!is_overwritten(birth->fds, index)) continue;
    birth->sources[index] = fcntl(birth->fds[index].parent_fd, F_DUPFD_CLOEXEC, highest + 1);
    if (birth->sources[index] < 0) return errno;
  }
  for (size_t index = 0; index < birth->fd_count; index += 1) {
    int source = birth->sources[index], wanted = birth->fds[index].child_fd;
    long result = source == wanted ? fcntl(source, F_SETFD, 0) : syscall(SYS_dup3, source, wanted, 0);
    if (result < 0) return errno;
  }
  return 0;
}

/// Whether a number is that of a descriptor which the program is to have.
UNINSTRUMENTED static bool is_wanted(const void *opaque, int fd) {
  const struct birth *birth = opaque;
  for (size_t index = 0; index < birth->fd_count; index += 1) {
    if (birth->fds[index].child_fd == fd) return true;
  }
  return false;
}

/// What the program is to have is unmarked after that.
UNINSTRUMENTED static int mark_all_for_closing(void) {
  enum { CLOSE_RANGE_CLOEXEC_FLAG = 4 };
  if (syscall(SYS_close_range, STDERR_FILENO + 1, ~0U, CLOSE_RANGE_CLOEXEC_FLAG) == 0) return 0;
  // Before Linux 5.11, or under a profile that does not know it: one by one, as far as numbers can go.
  struct rlimit numbers;
  if (getrlimit(RLIMIT_NOFILE, &numbers) < 0) return errno;
  const rlim_t end = numbers.rlim_max < TRACKED_DESCRIPTORS ? numbers.rlim_max : TRACKED_DESCRIPTORS;
  for (int fd = STDERR_FILENO + 1; (rlim_t)fd < end; fd += 1) fcntl(fd, F_SETFD, FD_CLOEXEC);
  return 0;
}

/// A handler of the program must not run here. What is ignored stays so, as through any exec.
UNINSTRUMENTED static void forget_handlers(void) {
  // Of the kernel's own layout, which begins with the handler everywhere.
  struct { void (*handler)(int); uint64_t others[7]; } action, standard = {.handler = SIG_DFL};
  for (int signal = 1; signal < NSIG; signal += 1) {
    if (syscall(SYS_rt_sigaction, signal, NULL, &action, sizeof(uint64_t)) < 0) continue;
    if (action.handler == SIG_IGN || action.handler == SIG_DFL) continue;
    syscall(SYS_rt_sigaction, signal, &standard, NULL, sizeof(uint64_t));
  }
}

/// Whatever the new process is to differ in. `false`, with errno and the step: it cannot.
UNINSTRUMENTED static bool take_surroundings(struct birth *birth) {
  const struct csupport_surroundings *wanted = birth->surroundings;
  if (wanted->session == CSUPPORT_NEW_SESSION && setsid() < 0) return birth->failed_step = CSUPPORT_BIRTH_SESSION, false;
  if (wanted->session == CSUPPORT_NEW_GROUP && setpgid(0, 0) < 0) return birth->failed_step = CSUPPORT_BIRTH_GROUP, false;
  if (wanted->directory != NULL && chdir(wanted->directory) < 0) return birth->failed_step = CSUPPORT_BIRTH_DIRECTORY, false;
  if (wanted->parent_death_signal != 0) {
    if (syscall(SYS_prctl, PR_SET_PDEATHSIG, wanted->parent_death_signal, 0, 0, 0) < 0) return birth->failed_step = CSUPPORT_BIRTH_SIGNAL, false;
    // The parent may have been killed before that.
    if (getppid() != birth->parent) syscall(SYS_exit_group, 127);
  }
  for (size_t index = 0; index < wanted->limit_count; index += 1) {
    const struct rlimit limit = {.rlim_cur = wanted->limits[index].value, .rlim_max = wanted->limits[index].value};
    if (setrlimit(wanted->limits[index].resource, &limit) < 0) return birth->failed_step = CSUPPORT_BIRTH_LIMITS, false;
  }
  return true;
}

/// The first of the paths that can be executed, as execvp looks for it.
UNINSTRUMENTED static int execute(const struct birth *birth) {
  bool is_forbidden = false;
  for (const char *const *path = birth->paths; *path != NULL; path += 1) {
    execve(*path, birth->argv, birth->envp);
    switch (errno) {
      case EACCES: is_forbidden = true; break;
      case ENOENT: case ENOTDIR: case ENAMETOOLONG: case ELOOP: case ESTALE: case ENODEV: case ETIMEDOUT: break;
      default: return errno;
    }
    // Of a single path, the error itself is told.
    if (birth->paths[1] == NULL) return errno;
  }
  return is_forbidden ? EACCES : ENOENT;
}

/// Of the kernel's own size: the C library's functions leave out the two signals that it keeps for itself.
UNINSTRUMENTED static void set_signal_mask(const uint64_t *mask, uint64_t *old) {
  syscall(SYS_rt_sigprocmask, SIG_SETMASK, mask, old, sizeof *mask);
}

UNINSTRUMENTED static int be_born(void *opaque) {
  struct birth *birth = opaque;
  const uint64_t none = 0;
  forget_handlers();
  birth->failed_step = CSUPPORT_BIRTH_CLOSING;
  if (birth->surroundings->has_nothing_else) birth->error = mark_all_for_closing();
  if (birth->error == 0) {
    birth->failed_step = CSUPPORT_BIRTH_DESCRIPTORS;
    birth->error = place_descriptors(birth, highest_number(birth));
  }
  // Not left to exec: by then this process goes on, and what a peer has sent may be closed there. The last close of it
  // can take as long as the peer likes, and the program would wait for that.
  close_copies(is_wanted, birth);
  let_closers_go(birth->name);
  // A thread that was placed has a place of its own, which is not for the programs that are started there. If that is
  // refused, they share it.
  if (birth->processors != NULL) syscall(SYS_sched_setaffinity, 0, sizeof *birth->processors, birth->processors);
  if (birth->error == 0 && !take_surroundings(birth)) birth->error = errno;
  if (birth->error == 0) {
    set_signal_mask(&none, NULL);
    birth->failed_step = CSUPPORT_BIRTH_PROGRAM;
    birth->error = execute(birth);
  }
  syscall(SYS_exit_group, 127);
  __builtin_unreachable();
}

// The thread sanitizer takes every clone for a fork, and would prepare the new process's memory, which is this one's.
// This is the C library's other name of it.
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
extern int __clone(int (*function)(void *), void *stack, int flags, void *argument, ...);
#define clone __clone
#endif
#endif

/// The new process, and its pidfd; or -errno, and no process.
static pid_t give_birth(struct birth *birth, int *pidfd) {
  enum { STACK_BYTES = 64 * 1024 };
  char *stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
  if (stack == MAP_FAILED) return -errno;
  // The pidfd comes with the process: a number could be somebody else's, or nobody's, a moment later. Nor does the
  // process announce its end before it has executed a program (which makes it an ordinary child): whoever waits for any
  // child hears nothing of one that could not.
  const uint64_t all = UINT64_MAX;
  uint64_t own;
  birth->name = hold_closers();
  set_signal_mask(&all, &own);
  pid_t pid = clone(be_born, stack + STACK_BYTES, CLONE_VM | CLONE_VFORK | CLONE_PIDFD, birth, pidfd);
  int error = errno;
  set_signal_mask(&own, NULL);
  end_birth(birth->name);
  munmap(stack, STACK_BYTES);
  return pid < 0 ? -error : pid;
}

const char *csupport_birth_step_call(enum csupport_birth_step step) {
  static const char *const calls[] = {
      [CSUPPORT_BIRTH_NUMBER] = "eventfd",      [CSUPPORT_BIRTH_MEMORY] = "calloc",
      [CSUPPORT_BIRTH_THREAD] = "pthread_create", [CSUPPORT_BIRTH_PROCESS] = "clone",
      [CSUPPORT_BIRTH_CLOSING] = "close_range",  [CSUPPORT_BIRTH_DESCRIPTORS] = "dup3",    [CSUPPORT_BIRTH_SESSION] = "setsid",
      [CSUPPORT_BIRTH_GROUP] = "setpgid",       [CSUPPORT_BIRTH_DIRECTORY] = "chdir",
      [CSUPPORT_BIRTH_SIGNAL] = "prctl",        [CSUPPORT_BIRTH_LIMITS] = "setrlimit",
      [CSUPPORT_BIRTH_PROGRAM] = "execve",
  };
  return calls[step];
}

static int spawn(struct birth *birth, struct csupport_newborn *newborn) {
  newborn->failed_step = CSUPPORT_BIRTH_NUMBER;
  // Once the program runs, nothing may fail: the pidfd's final number is taken before.
  int reserved = csupport_eventfd_create();
  if (reserved < 0) return reserved;
  newborn->failed_step = CSUPPORT_BIRTH_MEMORY;
  birth->sources = calloc(birth->fd_count + 1, sizeof *birth->sources);
  if (birth->sources == NULL) return fail_closing(reserved, ENOMEM);
  newborn->failed_step = CSUPPORT_BIRTH_PROCESS;
  int made;
  birth->parent = getpid();
  birth->processors = unplaced_processors();
  pid_t child = give_birth(birth, &made);
  free(birth->sources);
  if (child < 0) return fail_closing(reserved, -child);
  dup3(made, reserved, O_CLOEXEC);
  close(made);
  if (birth->error != 0) {
    newborn->failed_step = birth->failed_step;
    while (waitid(P_PIDFD, (id_t)reserved, NULL, WEXITED | __WALL) < 0 && errno == EINTR) continue;
    return fail_closing(reserved, birth->error);
  }
  *newborn = (struct csupport_newborn){.pid = child, .pidfd = reserved};
  return 0;
}

/// For the kernel, the parent is the thread that has started a process: the signal of its death would come with the
/// thread's end. So that thread stays for as long as the process lives.
struct stay {
  struct birth *birth;
  struct csupport_newborn *newborn;
  int result;
  _Atomic uint32_t is_done;
};

static void spawn_and_stay(void *opaque) {
  struct stay *stay = opaque;
  const int result = spawn(stay->birth, stay->newborn);
  // Without a number for a copy, it waits for the process's end without one.
  const int copy = result < 0 ? -1 : new_descriptor(fcntl(stay->newborn->pidfd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
  const pid_t pid = result < 0 ? 0 : stay->newborn->pid;
  stay->result = result;
  // Release, with the wake-up: pairs with the acquire in spawn_to_stay; from here on, all of that is the other thread's.
  atomic_store_explicit(&stay->is_done, 1, memory_order_release);
  syscall(SYS_futex, &stay->is_done, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, NULL, NULL, 0);
  if (result < 0) return;
  if (copy >= 0) {
    struct pollfd end = {.fd = copy, .events = POLLIN};
    while (poll(&end, 1, -1) < 0 && errno == EINTR) continue;
    close_descriptor(copy);
  } else {
    while (waitid(P_PID, (id_t)pid, NULL, WEXITED | WNOWAIT | __WALL) < 0 && errno == EINTR) continue;
  }
}

static int spawn_to_stay(struct birth *birth, struct csupport_newborn *newborn) {
  struct stay stay = {.birth = birth, .newborn = newborn};
  newborn->failed_step = CSUPPORT_BIRTH_THREAD;
  int result = csupport_thread_start("messageports-sp", spawn_and_stay, &stay);
  if (result < 0) return result;
  // Acquire: pairs with the release in spawn_and_stay.
  while (atomic_load_explicit(&stay.is_done, memory_order_acquire) == 0) {
    syscall(SYS_futex, &stay.is_done, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 0, NULL, NULL, 0);
  }
  return stay.result;
}

int csupport_spawn_in(const struct csupport_surroundings *surroundings, const char *const paths[], char *const argv[],
                      char *const envp[], struct csupport_newborn *newborn) {
  struct birth birth = {.paths = paths, .argv = argv, .envp = envp, .fds = surroundings->fds,
                        .fd_count = surroundings->fd_count, .surroundings = surroundings};
  return surroundings->parent_death_signal == 0 ? spawn(&birth, newborn) : spawn_to_stay(&birth, newborn);
}

int csupport_spawn(const char *const paths[], char *const argv[], char *const envp[],
                   const struct csupport_inherited_fd *fds, size_t fd_count, pid_t *pid, int *pidfd) {
  const struct csupport_surroundings surroundings = {.fds = fds, .fd_count = fd_count};
  struct csupport_newborn newborn;
  int result = csupport_spawn_in(&surroundings, paths, argv, envp, &newborn);
  if (result < 0) return result;
  *pid = newborn.pid;
  *pidfd = newborn.pidfd;
  return 0;
}

int csupport_pipe(int *reading, int *writing) {
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) < 0) return -errno;
  int one = new_descriptor(fds[0]);
  if (one < 0) {
    close(fds[1]);
    return one;
  }
  int other = new_descriptor(fds[1]);
  if (other < 0) return fail_closing(one, -other);
  *reading = one;
  *writing = other;
  return 0;
}

int csupport_open(const char *path, int flags) { return new_descriptor(open(path, flags | O_CLOEXEC, 0666)); }
