#define _GNU_SOURCE
#include "CTestSupport.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <unistd.h>

int ctest_reserve_behind_end(int fd, uint64_t offset, uint64_t bytes) {
  return fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)bytes) < 0 ? -errno : 0;
}

int ctest_watch_memory(int fd) {
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  const int watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
  if (watch < 0) return -errno;
  if (inotify_add_watch(watch, path, IN_DELETE_SELF) >= 0) return watch;
  const int error = errno;
  close(watch);
  return -error;
}

bool ctest_is_freed(int watch) {
  struct pollfd event = {.fd = watch, .events = POLLIN};
  return poll(&event, 1, 0) == 1;
}
