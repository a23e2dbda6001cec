// Sends messages with descriptors: of every kind, as many as there can be, too few, too many, and other ones than it says.

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

void attack_cargo(const char *path) {
  struct end ends[9];
  if (!meet(&ends[0], path, LANE_CAPACITY)) return;
  int count = 1 + take_ports(&ends[0], ends + 1, 8);
  for (int i = 0; i < count; i++) {
    for (int round = 0; round < 8; round++) {
      // Most are correct, so that the channel goes on.
      int fd = below(16) == 0 ? lingering() : anything(&ends[i]), fds[MOST_FDS];
      if (fd < 0) continue;
      int number = below(4) == 0 ? MOST_FDS : 1 + (int)below(8);
      for (int j = 0; j < number; j++) fds[j] = fd;
      uint16_t announced = (uint16_t)(number << 8), claimed = announced;
      int sent = number;
      bool isCorrect = round < 6 || below(2) == 0;
      if (!isCorrect) {
        switch (below(5)) {
        case 0: sent = (int)below((uint64_t)number); break;
        case 1: sent = number + (int)below((uint64_t)(MOST_FDS - number) + 1); break;
        case 2: claimed = (uint16_t)below(1 << 16); break;
        case 3: announced = (uint16_t)below(1 << 16); break;
        default: announced = 0;  // nobody announces them
        }
        for (int j = number; j < sent; j++) fds[j] = fd;
      }
      leave(fd, give_descriptors(&ends[i], announced, claimed, fds, sent));
      if (!isCorrect) break;
    }
    signal_anyway(&ends[i]);
  }
  pause_microseconds(2000);
  for (int i = 0; i < count; i++) let_go(&ends[i]);
}
