// Processes that are there.

#define _GNU_SOURCE
#include "CSupport.h"
#include "new_descriptor.h"

#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

// ---- ends --------------------------------------------------------------------------------------------------------

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

/// Reads what fits of a small file, and ends it with a zero. The number of bytes, or -errno.
static ssize_t read_text(const char *path, char *text, size_t capacity) {
  int fd = new_descriptor(open(path, O_RDONLY | O_CLOEXEC));
  if (fd < 0) return fd;
  ssize_t count = read(fd, text, capacity - 1);
  int error = errno;
  close_descriptor(fd);
  if (count < 0) return -error;
  text[count] = 0;
  return count;
}

int csupport_process_is_ending(pid_t pid) {
  enum { PF_EXITING = 4 };
  char path[64], line[512];
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  ssize_t count = read_text(path, line, sizeof line);
  if (count < 0) return (int)count;
  // The program's name, in brackets, may contain brackets. The flags come six fields later.
  const char *end_of_name = strrchr(line, ')');
  unsigned flags;
  if (end_of_name == NULL || sscanf(end_of_name + 1, " %*c %*d %*d %*d %*d %*d %u", &flags) != 1) return -EPROTO;
  return (flags & PF_EXITING) != 0;
}

pid_t csupport_process_child(pid_t pid) {
  char path[64], line[32];
  snprintf(path, sizeof path, "/proc/%d/task/%d/children", pid, pid);
  ssize_t count = read_text(path, line, sizeof line);
  return count < 0 ? (pid_t)count : (pid_t)strtol(line, NULL, 10);
}

int csupport_process_field(pid_t pid, const char *name, int base, uint64_t *value) {
  char path[64], text[4096];
  snprintf(path, sizeof path, "/proc/%d/status", pid);
  ssize_t count = read_text(path, text, sizeof text);
  if (count < 0) return (int)count;
  const size_t length = strlen(name);
  for (const char *line = text; line != NULL && *line != 0; line = strchr(line, '\n')) {
    line += *line == '\n';
    if (strncmp(line, name, length) != 0 || line[length] != ':') continue;
    *value = strtoull(line + length + 1, NULL, base);
    return 0;
  }
  return -ENOENT;
}

int csupport_process_has_own_namespace(pid_t pid, const char *kind) {
  char own_path[64], path[64];
  snprintf(own_path, sizeof own_path, "/proc/self/ns/%s", kind);
  snprintf(path, sizeof path, "/proc/%d/ns/%s", pid, kind);
  struct stat own, others;
  if (stat(own_path, &own) < 0 || stat(path, &others) < 0) return -errno;
  return own.st_ino != others.st_ino || own.st_dev != others.st_dev;
}

struct name_reader {
  void (*body)(void *, const char *);
  void *context;
};

static int read_name(struct dl_phdr_info *info, size_t size, void *opaque) {
  (void)size;
  const struct name_reader *reader = opaque;
  reader->body(reader->context, info->dlpi_name);
  return 0;
}

void csupport_loaded_files(void (*body)(void *, const char *), void *context) {
  struct name_reader reader = {.body = body, .context = context};
  dl_iterate_phdr(read_name, &reader);
}

int csupport_pidfd_open(pid_t pid) {
  return new_descriptor(pidfd_open(pid, 0));  // always close-on-exec
}

int csupport_pidfd_signal(int pidfd, int signal) {
  return pidfd_send_signal(pidfd, signal, NULL, 0) < 0 ? -errno : 0;
}
