// Which descriptors are the library's, from when they are made or received until they are closed; and what becomes of
// them in a process that is forked off without an exec.

#define _GNU_SOURCE
#include "new_descriptor.h"

#include "CSupport.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

// ---- the library's own ----------------------------------------------------------------------------------------------

/// A bit for each number. Relaxed: whoever forks has seen what its own threads made before, and no other thread runs in
/// the child.
static _Atomic uint64_t owned[TRACKED_DESCRIPTORS / 64];

static void own(int fd) {
  if (fd < TRACKED_DESCRIPTORS) atomic_fetch_or_explicit(&owned[fd / 64], 1ull << (fd % 64), memory_order_relaxed);
}

void forget_descriptor(int fd) {
  if (fd >= 0 && fd < TRACKED_DESCRIPTORS) atomic_fetch_and_explicit(&owned[fd / 64], ~(1ull << (fd % 64)), memory_order_relaxed);
}

int new_descriptor(int result) {
  if (result < 0) return -errno;
  if (result <= STDERR_FILENO) {
    int moved = fcntl(result, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    int error = errno;
    close(result);
    if (moved < 0) return -error;
    result = moved;
  }
  own(result);
  return result;
}

int received_descriptor(int fd) {
  if (fd > STDERR_FILENO) {
    own(fd);
    return fd;
  }
  int moved = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
  int error = errno;
  // Here and now: what the program prints would go there. It does not take long, unless this is the last of a socket.
  const struct linger none = {0};
  if (moved < 0) setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
  close(fd);
  if (moved < 0) return -error;
  own(moved);
  return moved;
}

int close_descriptor(int fd) {
  forget_descriptor(fd);  // before the number can be somebody else's
  return close(fd);
}

int fail_closing(int fd, int error) {
  close_descriptor(fd);
  return -error;
}

int csupport_close(int fd) {
  close_what_is_stranded();
  // Linux has released the number even when it says EINTR. Passed on, that would invite a second close, and the
  // number may be another thread's by then.
  return close_descriptor(fd) < 0 && errno != EINTR ? -errno : 0;
}

int csupport_adopt(int fd) {
  if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) return -errno;
  own(fd);
  return 0;
}

int csupport_take_over(int fd) {
  if (fd < 0 || fd > STDERR_FILENO) {
    const int error = csupport_adopt(fd);
    return error < 0 ? error : fd;
  }
  const int moved = csupport_duplicate(fd);
  if (moved >= 0) close(fd);
  return moved;
}

int csupport_duplicate(int fd) {
  const int copy = new_descriptor(fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
  // So the kernel says that no number above the standard ones is permitted at all.
  return copy == -EINVAL ? -EMFILE : copy;
}

void csupport_give_up(int fd) { forget_descriptor(fd); }

int csupport_descriptors_are_free(int fd, size_t count) {
  if (count > CSUPPORT_MAX_PACKET_FDS) return -EINVAL;
  int taken[CSUPPORT_MAX_PACKET_FDS], error = 0;
  size_t done = 0;
  while (done < count && error == 0) {
    const int copy = csupport_duplicate(fd);
    if (copy < 0) {
      error = copy;
    } else {
      taken[done] = copy;
      done += 1;
    }
  }
  while (done > 0) {
    done -= 1;
    close_descriptor(taken[done]);
  }
  return error;
}

UNINSTRUMENTED void close_copies(bool (*is_wanted)(const void *, int), const void *context) {
  for (int group = 0; group < TRACKED_DESCRIPTORS / 64; group += 1) {
    uint64_t bits = atomic_load_explicit(&owned[group], memory_order_relaxed);
    for (; bits != 0; bits &= bits - 1) {
      int fd = group * 64 + __builtin_ctzll(bits);
      if (fd > STDERR_FILENO && !is_wanted(context, fd)) syscall(SYS_close, fd);
    }
  }
}

// ---- in a forked child ----------------------------------------------------------------------------------------------

/// A socket whose other end has gone, or -1.
static int make_dead_socket(void) {
  int fds[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0) return -1;
  close(fds[1]);
  return fds[0];
}

/// The copies would keep channels open that nobody has, and hide the parent's death. They are closed, but the numbers
/// stay taken: objects that were copied as well still have them, and a free number would be somebody else's soon.
/// Whoever uses one finds a socket whose other end is gone.
void give_up_descriptors(void) {
  int dead = make_dead_socket();
  bool is_placed = false;
  for (int group = 0; group < TRACKED_DESCRIPTORS / 64; group += 1) {
    uint64_t bits = atomic_load_explicit(&owned[group], memory_order_relaxed);
    for (; bits != 0; bits &= bits - 1) {
      int fd = group * 64 + __builtin_ctzll(bits);
      if (dead < 0) {
        // There was no number for a pair: this one is enough for something else that says nothing.
        close(fd);
        dead = open("/dev/null", O_RDWR | O_CLOEXEC);
        is_placed = dead == fd;
      }
      if (dead >= 0 && dead != fd) dup3(dead, fd, O_CLOEXEC);
    }
  }
  if (dead >= 0 && !is_placed) close(dead);
}
