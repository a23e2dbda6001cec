// What tests need from the kernel that Swift cannot say: filters for system calls, and namespaces.

#ifndef CTEST_SUPPORT_H
#define CTEST_SUPPORT_H

#include <malloc.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/types.h>

/// Refuses a call with an error. With an argument, only if its low 32 bits, masked, are the value; -1: always.
struct ctest_refusal {
  int call;
  int error;
  int argument;
  uint32_t mask;
  uint32_t value;
};

#ifdef SYS_chmod
#define CTEST_SYS_CHMOD SYS_chmod
#else  // arm64
#define CTEST_SYS_CHMOD SYS_fchmodat
#endif

enum {
  CTEST_CHMOD = CTEST_SYS_CHMOD,
  CTEST_CLONE = SYS_clone,
  CTEST_CLONE3 = SYS_clone3,
  CTEST_DUP3 = SYS_dup3,
  CTEST_EPOLL_CTL = SYS_epoll_ctl,
  CTEST_EVENTFD2 = SYS_eventfd2,
  CTEST_EXECVE = SYS_execve,
  CTEST_EPOLL_PWAIT2 = SYS_epoll_pwait2,
  CTEST_FALLOCATE = SYS_fallocate,
  CTEST_FTRUNCATE = SYS_ftruncate,
  CTEST_FUTEX_WAITV = 449,
  CTEST_IO_URING_ENTER = SYS_io_uring_enter,
  CTEST_IO_URING_REGISTER = SYS_io_uring_register,
  CTEST_IO_URING_SETUP = SYS_io_uring_setup,
  CTEST_MEMBARRIER = SYS_membarrier,
  CTEST_MEMFD_CREATE = SYS_memfd_create,
  CTEST_MMAP = SYS_mmap,
  CTEST_PIDFD_OPEN = SYS_pidfd_open,
  CTEST_RECVMSG = SYS_recvmsg,
  CTEST_SENDMSG = SYS_sendmsg,
  CTEST_SETSOCKOPT = SYS_setsockopt,
  CTEST_SOCKET = SYS_socket,
  CTEST_SOCKETPAIR = SYS_socketpair,
};

/// Filters this thread's system calls, and those of all threads and processes that it starts; or of the whole process.
/// Cannot be undone. Returns 0 or -errno.
int ctest_refuse(const struct ctest_refusal *refusals, size_t count, bool whole_process);

/// From now on each such call of this thread, and of all that it starts, stands still in the kernel until it is let go.
/// Cannot be undone. Returns a descriptor that tells of them, or -errno.
int ctest_hold(int call);
struct ctest_held {
  uint64_t id;
  pid_t thread;
};
/// Waits for the next one. Returns 0, or -ENOENT once nobody is left who could make one.
int ctest_next_held(int listener, struct ctest_held *held);
int ctest_let_go(int listener, struct ctest_held held);

/// Counts the system calls of a thread.
struct ctest_call_count;
/// From now on those of this thread are counted, and of all that it starts. Cannot be undone, and each takes longer. NULL: the
/// kernel lacks what it takes.
struct ctest_call_count *ctest_count_calls(void);
/// How many there were. No system call.
long ctest_calls(const struct ctest_call_count *count);
/// The number of the last one; -1: there was none.
int ctest_last_call(const struct ctest_call_count *count);

/// How many page faults this thread has had, of either kind.
long ctest_thread_faults(void);
/// How this thread is scheduled: SCHED_…, and its nice value or priority.
int ctest_thread_policy(void);
int ctest_thread_nice(void);
int ctest_thread_priority(void);
/// Lowers RLIMIT_MEMLOCK to so many bytes, and gives up every privilege. For ever. 0 or -errno.
int ctest_become_nobody(size_t lock_limit);

/// Moves this process, which must have one thread, to a world with nothing in it: an empty file system that cannot be
/// written, no network, no System V objects; without privileges. Returns 0 or -errno.
int ctest_leave_the_world(void);

/// Gives this thread, and what it starts, a /dev/shm of its own that holds `bytes`. Returns 0 or -errno.
int ctest_make_small_shm(size_t bytes);

/// Takes memory behind a file's end, whose size stays. 0 or -errno.
int ctest_reserve_behind_end(int fd, uint64_t offset, uint64_t bytes);
/// A descriptor that says when a memory file is gone, and does not keep it; or -errno.
int ctest_watch_memory(int fd);
/// Whether it is: nobody has it open or mapped, and it is in nobody's message.
bool ctest_is_freed(int watch);

/// Forks a child that does nothing until it is killed. Its number, or -errno.
pid_t ctest_fork_and_pause(void);
/// A child that has not come to any of the handlers for a fork yet, and never will. Its pid, or -errno.
pid_t ctest_fork_unnoticed(void);
/// Forks a child that calls `exit`, exit handlers and all. Its number, or -errno.
pid_t ctest_fork_and_exit(int status);
/// fork(), which Swift does not offer. Returns twice: 0 in the child, which SIGALRM ends after half a minute; in the parent, its
/// number or -errno.
pid_t ctest_fork(void);
/// Forks a child that writes a byte to `fd`, and exits with 0 or errno. Its number, or -errno.
pid_t ctest_fork_and_check(int fd);

/// Moves all who sleep on a word that processes share to another one, which nobody wakes. Their number, or -errno.
int ctest_move_sleepers(void *from, void *to);

/// Gives back what the heap keeps for later.
static inline void ctest_trim_heap(void) { malloc_trim(0); }

/// From now on threads share the heaps there are. Each would have one of its own else, which reserves 64 MiB of addresses.
static inline void ctest_share_heaps(void) { mallopt(M_ARENA_MAX, 1); }

/// A pipe that never blocks, close-on-exec. Returns 0 or -errno.
int ctest_pipe(int *reader, int *writer);

/// Adds seals to a file. Returns 0 or -errno.
int ctest_add_seals(int fd, int seals);

#endif
