// Memory that two processes map: made, sealed, grown, given back. For mapping it, see mappings.c.

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
#include <sys/vfs.h>
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
#ifndef F_SEAL_EXEC  // the same
#define F_SEAL_EXEC 0x0020
#endif

enum { TMPFS = 0x01021994 };  // TMPFS_MAGIC, of memfd's own file system as well; linux/magic.h is not everywhere

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

int csupport_memory_create(const char *name, uint64_t bytes) {
  if (!is_size_allowed(bytes)) return -EFBIG;
  int fd = memfd_create(name, MFD_CLOEXEC | MFD_NOEXEC_SEAL | MFD_ALLOW_SEALING);
  if (fd < 0 && errno == EINVAL) fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
  fd = new_descriptor(fd);
  if (fd < 0) return fd;
  return ftruncate(fd, (off_t)bytes) < 0 ? fail_closing(fd, errno) : fd;
}

int csupport_memory_create_sealed(uint64_t bytes) {
  const int fd = csupport_memory_create("message-port", bytes);
  if (fd < 0) return fd;
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
  if (error != 0) return fail_closing(fd, error);
  // Where this is no memory, whoever receives it could not tell what it is.
  struct csupport_file_facts facts;
  int kind = csupport_memory_inspect(fd, &facts);
  if (kind != CSUPPORT_MEMORY_UNSEALED) return fail_closing(fd, kind < 0 ? -kind : EOPNOTSUPP);
  return fd;
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

int csupport_memory_seals(int fd) {
  int flags = fcntl(fd, F_GETFL);
  if (flags < 0) return -errno;
  if ((flags & O_PATH) != 0 || (flags & O_ACCMODE) != O_RDWR) return -EINVAL;
  // Answered for memory alone.
  int seals = fcntl(fd, F_GET_SEALS);
  return seals < 0 ? -errno : seals;
}

int csupport_memory_facts(int fd, struct csupport_file_facts *facts) {
  // Huge pages take seals, too, and there need not be one for each access.
  struct statfs system;
  if (fstatfs(fd, &system) < 0) return -errno;
  if (system.f_type != TMPFS) return 0;
  int result = csupport_file_facts(fd, facts);
  return result < 0 ? result : facts->is_regular;
}

int csupport_memory_inspect(int fd, struct csupport_file_facts *facts) {
  // Everything up to fstat() is answered by the kernel itself: the file may lie in a file system of the sender's own,
  // which could take for ever over a question.
  int seals = csupport_memory_seals(fd);
  if (seals < 0) return seals == -EINVAL ? CSUPPORT_MEMORY_FOREIGN : seals;
  int kind;
  // Kernels before 6.3 have no seal on the mode, which is of no interest here.
  switch (seals & ~F_SEAL_EXEC) {
    case F_SEAL_SHRINK | F_SEAL_SEAL: kind = CSUPPORT_MEMORY_SEALED; break;
    case F_SEAL_SEAL: kind = CSUPPORT_MEMORY_UNSEALED; break;
    default: return CSUPPORT_MEMORY_FOREIGN;  // also what others could seal later: not against writing while it is mapped
  }
  // The size last: from now on it only grows.
  int result = csupport_memory_facts(fd, facts);
  return result <= 0 ? result : kind;
}

ssize_t csupport_memory_read(int fd, uint64_t offset, void *bytes, size_t byte_count) {
  if (offset > (uint64_t)INT64_MAX) return -EOVERFLOW;
  ssize_t count = pread(fd, bytes, byte_count, (off_t)offset);
  return count < 0 ? access_error(fd, errno) : count;
}

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
