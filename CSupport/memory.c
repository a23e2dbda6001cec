// Memory that two processes map: made, sealed, grown, given back, mapped.

#define _GNU_SOURCE
#include "CSupport.h"
#include "new_descriptor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

bool csupport_has_fast_strings = false;

#if defined(__x86_64__)
#include <cpuid.h>

__attribute__((constructor)) static void find_fast_strings(void) {
  unsigned a, b, c, d;
  csupport_has_fast_strings = __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & 1u << 9) != 0;
}
#endif

#ifndef MFD_NOEXEC_SEAL  // Linux 6.3
#define MFD_NOEXEC_SEAL 0x0008U
#endif

/// Whether this process may make a file that long. The kernel would answer an attempt beyond RLIMIT_FSIZE with
/// SIGXFSZ, whose default is to end the process.
static bool is_size_allowed(uint64_t bytes) {
  struct rlimit limit;
  if (bytes > (uint64_t)INT64_MAX) return false;
  if (getrlimit(RLIMIT_FSIZE, &limit) < 0) return true;
  return limit.rlim_cur == RLIM_INFINITY || bytes <= limit.rlim_cur;
}

/// The error of a call that wants `fd` open for reading and writing. The kernel says EBADF also of descriptors that
/// were opened with less (read-only, O_PATH). Those come from a peer; EBADF proper is a mistake of our own.
static int access_error(int fd, int error) {
  return error == EBADF && fcntl(fd, F_GETFL) >= 0 ? -EACCES : -error;
}

int csupport_memory_create_sealed(uint64_t bytes) {
  if (!is_size_allowed(bytes)) return -EFBIG;
  const char *name = "message-port";  // for people who read /proc/<pid>/maps; need not be unique
  int fd = memfd_create(name, MFD_CLOEXEC | MFD_NOEXEC_SEAL | MFD_ALLOW_SEALING);
  if (fd < 0 && errno == EINVAL) fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
  fd = new_descriptor(fd);
  if (fd < 0) return fd;
  if (ftruncate(fd, (off_t)bytes) < 0) return fail_closing(fd, errno);
  if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_SEAL) < 0) return fail_closing(fd, errno);
  return fd;
}

/// A file in /dev/shm without a name: whoever is killed at the next instruction leaves nothing there.
static int open_unlinked(void) {
  // O_EXCL: nobody can give it a name later, either.
  int fd = new_descriptor(open("/dev/shm", O_TMPFILE | O_EXCL | O_RDWR | O_CLOEXEC, 0600));
  if (fd != -EOPNOTSUPP && fd != -EISDIR && fd != -EINVAL) return fd;

  // Not that kind of file system: it has a name for a moment.
  for (int attempt = 0; attempt < 8; attempt += 1) {
    uint64_t random[2];
    ssize_t count = getrandom(random, sizeof random, 0);  // at most 256 bytes are never cut short
    if (count < 0) return -errno;
    char name[64];
    snprintf(name, sizeof name, "/message-port-%016llx%016llx", (unsigned long long)random[0],
             (unsigned long long)random[1]);

    int fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 && errno == EEXIST) continue;
    if (fd < 0) return -errno;
    if (shm_unlink(name) < 0) return fail_closing(fd, errno);
    return new_descriptor(fd);
  }
  return -EEXIST;
}

int csupport_memory_create_unlinked(uint64_t bytes) {
  if (!is_size_allowed(bytes)) return -EFBIG;
  int fd = open_unlinked();
  if (fd < 0) return fd;
  int error = posix_fallocate(fd, 0, (off_t)bytes);
  return error != 0 ? fail_closing(fd, error) : fd;
}

int csupport_memory_reserve(int fd, uint64_t offset, uint64_t bytes) {
  uint64_t end;
  struct stat facts;
  if (__builtin_add_overflow(offset, bytes, &end)) return -EFBIG;
  if (fstat(fd, &facts) < 0) return -errno;
  // Within the file, keeping the size makes the kernel skip the limit and the signal, even if another process
  // shortens the file at this moment.
  int mode = 0;
  if (facts.st_size >= 0 && end <= (uint64_t)facts.st_size) {
    mode = FALLOC_FL_KEEP_SIZE;
  } else if (!is_size_allowed(end)) {
    return -EFBIG;
  }
  return fallocate(fd, mode, (off_t)offset, (off_t)bytes) < 0 ? access_error(fd, errno) : 0;
}

int csupport_memory_discard(int fd, uint64_t offset, uint64_t bytes) {
  if (offset > (uint64_t)INT64_MAX || bytes > (uint64_t)INT64_MAX) return -EFBIG;
  int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  return fallocate(fd, mode, (off_t)offset, (off_t)bytes) < 0 ? access_error(fd, errno) : 0;
}

int csupport_memory_is_shrink_sealed(int fd) {
  int seals = fcntl(fd, F_GET_SEALS);
  if (seals >= 0) return (seals & F_SEAL_SHRINK) != 0;
  // EINVAL: not a file that can be sealed. EACCES: not a descriptor that could be used.
  int result = access_error(fd, errno);
  return result == -EINVAL || result == -EACCES ? 0 : result;
}

int csupport_memory_map(int fd, uint64_t offset, size_t bytes, void **address) {
  *address = NULL;
  if (offset > (uint64_t)INT64_MAX) return -EOVERFLOW;
  void *mapped = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)offset);
  if (mapped == MAP_FAILED) return access_error(fd, errno);
  *address = mapped;
  return 0;
}

int csupport_memory_unmap(void *address, size_t bytes) { return munmap(address, bytes) < 0 ? -errno : 0; }

int csupport_file_facts(int fd, struct csupport_file_facts *facts) {
  struct stat status;
  if (fstat(fd, &status) < 0) return -errno;
  *facts = (struct csupport_file_facts){
      .device = status.st_dev,
      .inode = status.st_ino,
      .size_bytes = (uint64_t)status.st_size,
      .allocated_bytes = (uint64_t)status.st_blocks * 512,  // st_blocks counts 512-byte units whatever the file system
      .is_regular = S_ISREG(status.st_mode),
  };
  return 0;
}
