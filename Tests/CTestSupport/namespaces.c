// Worlds of their own for processes and threads.

#define _GNU_SOURCE
#include "CTestSupport.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { NOBODY = 65534 };

/// Whoever may not make namespaces gets the right from a user namespace, where the system allows one.
static int unshare_somehow(int flags) {
  if (unshare(flags) == 0) return 0;
  if (errno != EPERM) return -errno;
  return unshare(flags | CLONE_NEWUSER) == 0 ? 0 : -errno;
}

/// What is mounted from here on is seen by nobody else.
static int keep_mounts_private(void) { return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ? -errno : 0; }

int ctest_leave_the_world(void) {
  int result = unshare_somehow(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS);
  if (result == 0) result = keep_mounts_private();
  if (result < 0) return result;
  if (mount("none", "/tmp", "tmpfs", 0, "size=4k,mode=755") < 0) return -errno;
  if (chdir("/tmp") < 0) return -errno;
  if (mount(NULL, "/tmp", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) < 0) return -errno;
  // The old root now lies over the new one: take it off.
  if (syscall(SYS_pivot_root, ".", ".") < 0) return -errno;
  if (umount2(".", MNT_DETACH) < 0) return -errno;
  if (chdir("/") < 0) return -errno;
  // In a user namespace of its own it is nobody already.
  if (getuid() == 0 && (setresgid(NOBODY, NOBODY, NOBODY) < 0 || setresuid(NOBODY, NOBODY, NOBODY) < 0)) return -errno;
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0;
}

int ctest_make_small_shm(size_t bytes) {
  int result = unshare_somehow(CLONE_NEWNS);
  if (result == 0) result = keep_mounts_private();
  if (result < 0) return result;
  char options[64];
  snprintf(options, sizeof options, "size=%zu,mode=1777", bytes);
  return mount("none", "/dev/shm", "tmpfs", 0, options) < 0 ? -errno : 0;
}

int ctest_add_seals(int fd, int seals) { return fcntl(fd, F_ADD_SEALS, seals) < 0 ? -errno : 0; }
