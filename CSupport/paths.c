#define _GNU_SOURCE
#include "CSupport.h"
#include "new_descriptor.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

int csupport_path_kind(const char *path) {
  struct stat status;
  if (lstat(path, &status) < 0) return errno == ENOENT ? CSUPPORT_PATH_ABSENT : -errno;
  if (S_ISSOCK(status.st_mode)) return CSUPPORT_PATH_SOCKET;
  return S_ISDIR(status.st_mode) ? CSUPPORT_PATH_DIRECTORY : CSUPPORT_PATH_OTHER;
}

int csupport_path_identity(const char *path, struct csupport_path_identity *identity) {
  struct stat status;
  if (lstat(path, &status) < 0) return -errno;
  *identity = (struct csupport_path_identity){.device = status.st_dev, .inode = status.st_ino};
  return 0;
}

int csupport_path_remove(const char *path, struct csupport_path_identity identity) {
  struct csupport_path_identity now;
  int result = csupport_path_identity(path, &now);
  if (result < 0) return result;
  if (now.device != identity.device || now.inode != identity.inode) return -ESTALE;
  return unlink(path) < 0 ? -errno : 0;
}

int csupport_working_directory(char *path, size_t capacity) {
  // Outside the root of this process, the kernel names a path that nobody can use.
  if (getcwd(path, capacity) == NULL) return -errno;
  return path[0] == '/' ? 0 : -ENOENT;
}

int csupport_path_set_mode(const char *path, unsigned mode) { return chmod(path, mode) < 0 ? -errno : 0; }

int csupport_directory_lock(const char *path) {
  int fd = new_descriptor(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd < 0) return fd;
  if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
    return fail_closing(fd, errno);
  }
  return fd;
}

int csupport_directory_make_private(const char *path) {
  if (mkdir(path, 0700) < 0 && errno != EEXIST) return -errno;
  struct stat status;
  if (lstat(path, &status) < 0) return -errno;
  if (!S_ISDIR(status.st_mode)) return -ENOTDIR;
  if (status.st_uid != geteuid() || (status.st_mode & 077) != 0) return -EPERM;
  return 0;
}
