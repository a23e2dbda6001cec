// What tests need from the kernel that Swift cannot say: filters for system calls, and namespaces.

#ifndef CTEST_SUPPORT_H
#define CTEST_SUPPORT_H

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
  CTEST_EPOLL_CTL = SYS_epoll_ctl,
  CTEST_EPOLL_PWAIT2 = SYS_epoll_pwait2,
  CTEST_FALLOCATE = SYS_fallocate,
  CTEST_FTRUNCATE = SYS_ftruncate,
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

/// Moves this process, which must have one thread, to a world with nothing in it: an empty file system that cannot be
/// written, no network, no System V objects; without privileges. Returns 0 or -errno.
int ctest_leave_the_world(void);

/// Gives this thread, and what it starts, a /dev/shm of its own with room for so many bytes. Returns 0 or -errno.
int ctest_make_small_shm(size_t bytes);

/// Forks a child that does nothing until it is killed. Its number, or -errno.
pid_t ctest_fork_and_pause(void);
/// Forks a child that writes a byte to `fd`, and exits with 0 or errno. Its number, or -errno.
pid_t ctest_fork_and_check(int fd);

/// Adds seals to a file. Returns 0 or -errno.
int ctest_add_seals(int fd, int seals);

#endif
