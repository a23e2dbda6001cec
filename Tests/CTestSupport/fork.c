#define _GNU_SOURCE
#include "CTestSupport.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

pid_t ctest_fork_and_pause(void) {
  pid_t pid = fork();
  if (pid == 0) {
    while (1) pause();
  }
  return pid < 0 ? -errno : pid;
}

pid_t ctest_fork_unnoticed(void) {
  // Not through the library's function, so that no handler of anybody's runs.
  pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
  if (pid == 0) {
    while (1) pause();
  }
  return pid < 0 ? -errno : pid;
}

pid_t ctest_fork_and_exit(int status) {
  pid_t pid = fork();
  if (pid == 0) exit(status);
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

pid_t ctest_fork(void) {
  fflush(stdout);
  fflush(stderr);
  pid_t pid = fork();
  if (pid == 0) {
    // The thread may be one that blocks signals, and a child that hangs has to end.
    sigset_t alarm_only;
    sigemptyset(&alarm_only);
    sigaddset(&alarm_only, SIGALRM);
    pthread_sigmask(SIG_UNBLOCK, &alarm_only, NULL);
    alarm(30);
  }
  return pid < 0 ? -errno : pid;
}
