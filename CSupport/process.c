// Child processes and threads.

#define _GNU_SOURCE
#include "CSupport.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

// ---- spawning -------------------------------------------------------------------------------------------------------

/// The child's dup2 calls are made one after the other, so a descriptor can be overwritten before it is its turn.
/// Returns whether `fds[index]` would be.
static bool is_overwritten(const struct csupport_inherited_fd *fds, size_t index) {
  for (size_t earlier = 0; earlier < index; earlier += 1) {
    if (fds[earlier].child_fd == fds[index].parent_fd && fds[earlier].parent_fd != fds[index].parent_fd) return true;
  }
  return false;
}

/// Adds the dup2 calls. Whatever would be overwritten is copied out of the way first, to a number above all those of
/// the child; the copies are close-on-exec, and stored in `copies` for the caller to close.
static int add_descriptors(posix_spawn_file_actions_t *actions, const struct csupport_inherited_fd *fds,
                           size_t fd_count, int *copies, size_t *copy_count) {
  int highest = 2;
  for (size_t index = 0; index < fd_count; index += 1) {
    if (fds[index].child_fd > highest) highest = fds[index].child_fd;
  }
  for (size_t index = 0; index < fd_count; index += 1) {
    int source = fds[index].parent_fd;
    if (is_overwritten(fds, index)) {
      source = fcntl(source, F_DUPFD_CLOEXEC, highest + 1);
      if (source < 0) return errno;
      copies[*copy_count] = source;
      *copy_count += 1;
    }
    // With equal numbers this clears close-on-exec, in the child alone.
    int error = posix_spawn_file_actions_adddup2(actions, source, fds[index].child_fd);
    if (error != 0) return error;
  }
  return 0;
}

static int add_signal_defaults(posix_spawnattr_t *attributes) {
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  int error = posix_spawnattr_setsigmask(attributes, &none);
  if (error == 0) error = posix_spawnattr_setsigdefault(attributes, &all);
  if (error == 0) error = posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  return error;
}

int csupport_spawn(const char *path, char *const argv[], char *const envp[], const struct csupport_inherited_fd *fds,
                   size_t fd_count, pid_t *pid, int *pidfd) {
  int *copies = calloc(fd_count + 1, sizeof *copies);
  if (copies == NULL) return -ENOMEM;
  size_t copy_count = 0;
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  pid_t child = 0;

  int error = posix_spawn_file_actions_init(&actions);
  if (error == 0) {
    error = posix_spawnattr_init(&attributes);
    if (error == 0) {
      error = add_signal_defaults(&attributes);
      if (error == 0) error = add_descriptors(&actions, fds, fd_count, copies, &copy_count);
      if (error == 0) error = posix_spawn(&child, path, &actions, &attributes, argv, envp);
      posix_spawnattr_destroy(&attributes);
    }
    posix_spawn_file_actions_destroy(&actions);
  }
  for (size_t index = 0; index < copy_count; index += 1) close(copies[index]);
  free(copies);
  if (error != 0) return -error;

  // The child has not been waited for, so its number cannot mean anyone else yet.
  int opened = csupport_pidfd_open(child);
  if (opened == -ESRCH) return opened;  // somebody did wait for it: leave the number alone
  if (opened < 0) {
    kill(child, SIGKILL);
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR) continue;
    return opened;
  }
  *pid = child;
  *pidfd = opened;
  return 0;
}

int csupport_reap(int pidfd, struct csupport_exit *status) {
  siginfo_t info = {0};  // si_pid stays 0 if there is nothing to reap
  if (waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED | WNOHANG) < 0) return -errno;
  if (info.si_pid == 0) return 0;
  *status = (struct csupport_exit){.was_signalled = info.si_code != CLD_EXITED, .code = info.si_status};
  return 1;
}

int csupport_pidfd_open(pid_t pid) {
  int fd = pidfd_open(pid, 0);  // always close-on-exec
  return fd < 0 ? -errno : fd;
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

uint64_t csupport_thread_id(void) { return (uint64_t)pthread_self(); }

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
