// Sends messages with descriptors and buffers: of every kind, as many as there can be, too few, too many, and other ones
// than it says. Does with buffers what it can while they are looked at.

#include "../attacker.h"

#include <sys/epoll.h>
#include <sys/syscall.h>

/// Something that can be open.
static int anything(const struct end *end) {
  int ends[2];
  switch (below(9)) {
  case 0: return fcntl(end->socket, F_DUPFD_CLOEXEC, 3);
  case 1: return make_memory(0, PAGE, SEALED, LANE_CAPACITY);
  case 2: return open("/etc/passwd", O_PATH | O_CLOEXEC);
  case 3: return open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  case 4: return open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
  case 5: return epoll_create1(EPOLL_CLOEXEC);
  case 6: return (int)syscall(SYS_pidfd_open, getpid(), 0);
  case 7: return open("/proc/self/mem", O_RDWR | O_CLOEXEC);
  default:
    if (pipe2(ends, O_CLOEXEC) < 0) return -1;
    close(ends[below(2)]);
    return fcntl(ends[0], F_GETFD) >= 0 ? ends[0] : ends[1];
  }
}

enum { SHARED = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL, FROZEN = SHARED | F_SEAL_WRITE };

/// A buffer, or nearly.
static int a_buffer(bool isCorrect) {
  const off_t bytes = (off_t)(1 + below(5 * PAGE));
  int fd = make_memory(0, bytes, 0, LANE_CAPACITY);
  if (fd < 0) return -1;
  if (isCorrect || below(4) != 0) (void)!fallocate(fd, 0, 0, bytes);
  int seals = below(2) == 0 ? SHARED : FROZEN;
  if (!isCorrect) {
    switch (below(5)) {
      case 0: seals = (int)below(32) & ~F_SEAL_SEAL; break;
      case 1: seals |= F_SEAL_FUTURE_WRITE; break;
      case 2: (void)!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE); break;
      case 3: (void)!fallocate(fd, FALLOC_FL_KEEP_SIZE, 8 * PAGE, 8 * PAGE); break;
      default: (void)!ftruncate(fd, below(2) == 0 ? 0 : (off_t)1 << 50);
    }
  }
  fcntl(fd, F_ADD_SEALS, seals);
  return fd;
}

/// What the kernel lets it do with one that it has sent.
static void disturb(int fd) {
  static const char bytes[64] = "disturbed";
  for (int i = 0; i < 20; i++) {
    (void)!pwrite(fd, bytes, sizeof bytes, (off_t)below(PAGE));
    (void)!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 8 * PAGE);
    (void)!ftruncate(fd, (off_t)below(8 * PAGE));
    fcntl(fd, F_ADD_SEALS, (int)below(32));
  }
}

void attack_cargo(const char *path) {
  struct end ends[9];
  if (!meet(&ends[0], path, LANE_CAPACITY)) return;
  int count = 1 + take_ports(&ends[0], ends + 1, 8);
  for (int i = 0; i < count; i++) {
    for (int round = 0; round < 8; round++) {
      // Most are correct, so that the channel goes on.
      bool isCorrect = round < 6 || below(2) == 0, areBuffers = below(2) == 0;
      int fd = areBuffers ? a_buffer(isCorrect || below(2) == 0) : below(16) == 0 ? lingering() : anything(&ends[i]);
      if (fd < 0) continue;
      int fds[MOST_FDS];
      int number = below(4) == 0 ? MOST_FDS : 1 + (int)below(8);
      for (int j = 0; j < number; j++) fds[j] = fd;
      uint16_t announced = (uint16_t)(number << 8);
      uint32_t claimed = announced;
      if (areBuffers) claimed |= (uint32_t)(1 + below((uint64_t)number)) << 16;
      int sent = number;
      if (!isCorrect) {
        switch (below(5)) {
        case 0: sent = (int)below((uint64_t)number); break;
        case 1: sent = number + (int)below((uint64_t)(MOST_FDS - number) + 1); break;
        case 2: claimed = (uint32_t)below(1 << 24); break;
        case 3: announced = (uint16_t)below(1 << 16); break;
        default: announced = 0;  // nobody announces them
        }
        for (int j = number; j < sent; j++) fds[j] = fd;
      }
      const bool isSent = give_descriptors(&ends[i], announced, claimed, fds, sent);
      if (areBuffers) disturb(fd);
      leave(fd, isSent);
      if (!isCorrect) break;
    }
    signal_anyway(&ends[i]);
  }
  pause_microseconds(2000);
  for (int i = 0; i < count; i++) let_go(&ends[i]);
}
