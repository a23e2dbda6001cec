// Child processes and threads.

#define _GNU_SOURCE
#include "CSupport.h"
#include "new_descriptor.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

char *const *csupport_environment(void) { return environ; }

// ---- spawning -------------------------------------------------------------------------------------------------------

/// What the new process does until it is another program. It runs in this process's memory meanwhile, while the thread
/// that has started it stands still: it may use the kernel and its own stack, and nothing else.
struct birth {
  const char *const *paths;
  char *const *argv;
  char *const *envp;
  const struct csupport_inherited_fd *fds;
  size_t fd_count;
  int *sources;  // room for a number per descriptor
  uint32_t name;  // for let_closers_go()
  int error;     // why there is no other program; said through the memory that both have
};

/// The dup2 calls are made one after the other, so a descriptor can be overwritten before it is its turn.
/// Returns whether `fds[index]` would be.
static bool is_overwritten(const struct csupport_inherited_fd *fds, size_t index) {
  for (size_t earlier = 0; earlier < index; earlier += 1) {
    if (fds[earlier].child_fd == fds[index].parent_fd && fds[earlier].parent_fd != fds[index].parent_fd) return true;
  }
  return false;
}

static int highest_number(const struct birth *birth) {
  int highest = STDERR_FILENO;
  for (size_t index = 0; index < birth->fd_count; index += 1) {
    if (birth->fds[index].child_fd > highest) highest = birth->fds[index].child_fd;
  }
  return highest;
}

/// Gives the descriptors their numbers. Whatever would be overwritten is copied out of the way first, to a number above
/// all those wanted. The table is the new process's own.
static int place_descriptors(const struct birth *birth, int highest) {
  for (size_t index = 0; index < birth->fd_count; index += 1) {
    birth->sources[index] = birth->fds[index].parent_fd;
    if (!is_overwritten(birth->fds, index)) continue;
    birth->sources[index] = fcntl(birth->fds[index].parent_fd, F_DUPFD_CLOEXEC, highest + 1);
    if (birth->sources[index] < 0) return errno;
  }
  for (size_t index = 0; index < birth->fd_count; index += 1) {
    int source = birth->sources[index], wanted = birth->fds[index].child_fd;
    int result = source == wanted ? fcntl(source, F_SETFD, 0) : dup2(source, wanted);
    if (result < 0) return errno;
  }
  return 0;
}

/// A handler of the program must not run here. What is ignored stays so, as through any exec.
static void forget_handlers(void) {
  struct sigaction action, standard = {.sa_handler = SIG_DFL};
  for (int signal = 1; signal < NSIG; signal += 1) {
    if (sigaction(signal, NULL, &action) < 0) continue;
    if (action.sa_handler != SIG_IGN && action.sa_handler != SIG_DFL) sigaction(signal, &standard, NULL);
  }
}

/// The first of the paths that can be executed, as execvp looks for it.
static int execute(const struct birth *birth) {
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
static void set_signal_mask(const uint64_t *mask, uint64_t *old) {
  syscall(SYS_rt_sigprocmask, SIG_SETMASK, mask, old, sizeof *mask);
}

/// Not instrumented: it never returns, and would leave marks of its frame behind on a stack that is given back.
__attribute__((no_sanitize("address", "thread"))) static int be_born(void *opaque) {
  struct birth *birth = opaque;
  const uint64_t none = 0;
  forget_handlers();
  const int highest = highest_number(birth);
  birth->error = place_descriptors(birth, highest);
  // Not left to exec: by then this process goes on, and what a peer has sent may be closed there. The last close of it
  // can take as long as the peer likes, and the program would wait for that.
  close_copies(highest);
  let_closers_go(birth->name);
  if (birth->error == 0) {
    set_signal_mask(&none, NULL);
    birth->error = execute(birth);
  }
  _exit(127);
}

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

int csupport_spawn(const char *const paths[], char *const argv[], char *const envp[],
                   const struct csupport_inherited_fd *fds, size_t fd_count, pid_t *pid, int *pidfd) {
  struct birth birth = {.paths = paths, .argv = argv, .envp = envp, .fds = fds, .fd_count = fd_count};
  // Once the program runs, nothing may fail: the pidfd's final number is taken before.
  int reserved = csupport_eventfd_create();
  if (reserved < 0) return reserved;
  birth.sources = calloc(fd_count + 1, sizeof *birth.sources);
  if (birth.sources == NULL) return fail_closing(reserved, ENOMEM);
  int made;
  pid_t child = give_birth(&birth, &made);
  free(birth.sources);
  if (child < 0) return fail_closing(reserved, -child);
  dup3(made, reserved, O_CLOEXEC);
  close(made);
  if (birth.error != 0) {
    while (waitid(P_PIDFD, (id_t)reserved, NULL, WEXITED | __WALL) < 0 && errno == EINTR) continue;
    return fail_closing(reserved, birth.error);
  }
  *pid = child;
  *pidfd = reserved;
  return 0;
}

int csupport_reap(int pidfd, struct csupport_exit *status) {
  siginfo_t info = {0};  // si_pid stays 0 if there is nothing to reap
  // __WALL: a signal may have ended it before it became an ordinary child.
  if (waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED | WNOHANG | __WALL) < 0) return -errno;
  if (info.si_pid == 0) return 0;
  *status = (struct csupport_exit){.was_signalled = info.si_code != CLD_EXITED, .code = info.si_status};
  return 1;
}

/// What the kernel says of a process behind a pidfd, as Linux 6.13 defines it; newer than the headers.
struct pidfd_info {
  uint64_t mask;
  uint64_t cgroup_id;
  uint32_t ids[11];
  int32_t exit_code;
};
_Static_assert(sizeof(struct pidfd_info) == 64, "PIDFD_INFO_SIZE_VER0");
enum { PIDFD_INFO_EXIT = 1 << 3 };  // Linux 6.15
#define PIDFD_GET_INFO _IOWR(0xff, 11, struct pidfd_info)

int csupport_exit_after_reaping(int pidfd, struct csupport_exit *status) {
  struct pidfd_info info = {.mask = PIDFD_INFO_EXIT};
  if (ioctl(pidfd, PIDFD_GET_INFO, &info) < 0) return -errno;
  if ((info.mask & PIDFD_INFO_EXIT) == 0) return 0;
  bool was_signalled = WIFSIGNALED(info.exit_code);
  *status = (struct csupport_exit){
      .was_signalled = was_signalled, .code = was_signalled ? WTERMSIG(info.exit_code) : WEXITSTATUS(info.exit_code)};
  return 1;
}

int csupport_process_is_ending(pid_t pid) {
  enum { PF_EXITING = 4 };
  char path[64], line[512];
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  int fd = new_descriptor(open(path, O_RDONLY | O_CLOEXEC));
  if (fd < 0) return fd;
  ssize_t count = read(fd, line, sizeof line - 1);
  int error = errno;
  close_descriptor(fd);
  if (count < 0) return -error;
  line[count] = 0;
  // The program's name, in brackets, may contain brackets. The flags come six fields later.
  const char *end_of_name = strrchr(line, ')');
  unsigned flags;
  if (end_of_name == NULL || sscanf(end_of_name + 1, " %*c %*d %*d %*d %*d %*d %u", &flags) != 1) return -EPROTO;
  return (flags & PF_EXITING) != 0;
}

int csupport_pidfd_open(pid_t pid) {
  return new_descriptor(pidfd_open(pid, 0));  // always close-on-exec
}

int csupport_pidfd_signal(int pidfd, int signal) {
  return pidfd_send_signal(pidfd, signal, NULL, 0) < 0 ? -errno : 0;
}

// ---- threads --------------------------------------------------------------------------------------------------------

enum { THREAD_NAME_BYTES = 16 };  // with the terminating zero; the kernel keeps no more

struct start {
  void (*body)(void *);
  void *argument;
  char name[THREAD_NAME_BYTES];
};

static void *run(void *opaque) {
  struct start start = *(struct start *)opaque;
  free(opaque);
  pthread_setname_np(pthread_self(), start.name);
  start.body(start.argument);
  return NULL;
}

int csupport_thread_start(const char *name, void (*body)(void *), void *argument) {
  struct start *start = calloc(1, sizeof *start);
  if (start == NULL) return -ENOMEM;
  start->body = body;
  start->argument = argument;
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
