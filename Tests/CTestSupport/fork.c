#include "CTestSupport.h"

#include <errno.h>
#include <signal.h>
#include <unistd.h>

pid_t ctest_fork_and_pause(void) {
  pid_t pid = fork();
  if (pid == 0) {
    while (1) pause();
  }
  return pid < 0 ? -errno : pid;
}

pid_t ctest_fork_and_check(int fd) {
  pid_t pid = fork();
  if (pid == 0) {
    ssize_t count = write(fd, "x", 1);
    _exit(count < 0 ? errno : 0);
  }
  return pid < 0 ? -errno : pid;
}
