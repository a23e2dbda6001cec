// Holds system calls in the kernel until a test has looked around, with seccomp's notifications.

#define _GNU_SOURCE
#include "CTestSupport.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <unistd.h>

int ctest_hold(int call) {
  struct sock_filter steps[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const struct sock_fprog program = {.len = sizeof steps / sizeof *steps, .filter = steps};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) return -errno;
  const long fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
  return fd < 0 ? -errno : (int)fd;
}

int ctest_next_held(int listener, struct ctest_held *held) {
  struct seccomp_notif notification;
  do {
    struct pollfd entry = {.fd = listener, .events = POLLIN};
    while (poll(&entry, 1, -1) < 0 && errno == EINTR) continue;
    if ((entry.revents & POLLIN) == 0) return -ENOENT;
    notification = (struct seccomp_notif){0};
    // One that was interrupted meanwhile is gone.
  } while (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &notification) < 0);
  *held = (struct ctest_held){.id = notification.id, .thread = (pid_t)notification.pid};
  return 0;
}

int ctest_let_go(int listener, struct ctest_held held) {
  struct seccomp_notif_resp answer = {.id = held.id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
  return ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer) < 0 ? -errno : 0;
}
