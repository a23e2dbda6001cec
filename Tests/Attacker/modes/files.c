// Sends files that are not what they look like, or stop being it: as a connection's memory, a port's, and as the file
// of a message that has come in part.

#include "../attacker.h"

#include <linux/futex.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#ifndef MFD_HUGETLB
#define MFD_HUGETLB 4U
#endif
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 16
#endif

/// A file that is not a channel's memory, or not quite.
static int strange_file(void) {
  int pipes[2];
  switch (below(18)) {
  case 0: return make_memory(MFD_HUGETLB, 2 << 20, SEALED, LANE_CAPACITY);
  case 1: return make_memory(0, PAGE, F_SEAL_SHRINK, LANE_CAPACITY);
  case 2: return make_memory(0, PAGE, SEALED | F_SEAL_GROW, LANE_CAPACITY);
  case 3: return make_memory(0, PAGE, SEALED | F_SEAL_WRITE, LANE_CAPACITY);
  case 4: return make_memory(0, PAGE, SEALED | F_SEAL_FUTURE_WRITE, LANE_CAPACITY);
  case 5: return make_memory(0, PAGE, 0, LANE_CAPACITY);
  case 6: return make_memory(0, (off_t)below(PAGE), SEALED, LANE_CAPACITY);
  case 7: return make_memory(0, PAGE, SEALED, below(UINT64_MAX));
  case 8: return open("/dev/zero", O_RDWR | O_CLOEXEC);
  case 9: return open("/proc/self/mem", O_RDWR | O_CLOEXEC);
  case 10: return open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  case 11: return open("/proc/self/exe", O_PATH | O_CLOEXEC);
  case 12: return eventfd(0, EFD_CLOEXEC);
  case 13: return epoll_create1(EPOLL_CLOEXEC);
  case 14: return open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
#ifdef SYS_memfd_secret
  case 15: return (int)syscall(SYS_memfd_secret, O_CLOEXEC);
#endif
  case 16: {
    int memory = make_memory(0, PAGE, SEALED, LANE_CAPACITY);
    char path[40];
    snprintf(path, sizeof path, "/proc/self/fd/%d", memory);
    int readable = open(path, O_RDONLY | O_CLOEXEC);
    close(memory);
    return readable;
  }
  default:
    if (pipe2(pipes, O_CLOEXEC) < 0) return -1;
    close(pipes[1]);
    return pipes[0];
  }
}

/// A hello whose memory is cut off, then sealed, while the victim looks at it.
static void race_hello(const char *path) {
  for (int i = 0; i < 50; i++) {
    int socket = connect_to(path);
    if (socket < 0) return;
    int memory = make_memory(0, 1 << 20, 0, below(2) == 0 ? LANE_CAPACITY : (500 << 10));
    uint64_t hello[4] = {HELLO_MAGIC, VERSION, UINT64_MAX, 1 << 20};
    say_hello(socket, hello, &memory, 1);
    spin(below(300000));
    (void)!ftruncate(memory, below(3) == 0 ? PAGE : 0);
    fcntl(memory, F_ADD_SEALS, SEALED);
    pause_microseconds((unsigned)below(300));
    close(socket);
    close(memory);
  }
}

/// The same with a port's memory, and with the file of a message that has come in part.
static void race_port(struct end *carrier) {
  struct gift gift;
  struct end ours;
  if (!make_gift(&gift, &ours)) return;
  int file = make_memory(0, 1 << 20, 0, LANE_CAPACITY), parts = -1;
  if (file >= 0) {
    if (below(2) == 0) {
      close(gift.fds[1]);
      gift.fds[1] = fcntl(file, F_DUPFD_CLOEXEC, 3);
    } else {
      (void)!fallocate(file, 0, 0, 1 << 20);
      gift.words[0] |= 0x100;
      gift.words[2] = 1 << 20;
      gift.words[13] = 1 << 20;
      gift.words[14] = (1 << 20) - 8;
      parts = fcntl(file, F_DUPFD_CLOEXEC, 3);
    }
    give(carrier, &gift, 1, 1, parts);
    spin(below(300000));
    (void)!ftruncate(file, 0);
    fcntl(file, F_ADD_SEALS, SEALED);
    close(file);
  }
  let_go(&ours);
}

/// A lane that goes on in a segment which can never be mapped.
static void seal_later(struct end *end) {
  uint64_t link[2] = {REGION(end->number), 64 << 10};
  (void)!fallocate(end->memory, 0, (off_t)link[0], (off_t)link[1]);
  fcntl(end->memory, F_ADD_SEALS, F_SEAL_FUTURE_WRITE);
  put(end, LINK, 0, link, sizeof link);
  signal_victim(end);
}

void attack_files(const char *path) {
  race_hello(path);
  for (int i = 0; i < 10; i++) {
    int socket = connect_to(path), memory = strange_file();
    uint64_t hello[4] = {HELLO_MAGIC, VERSION, UINT64_MAX, 1 << 20};
    if (socket >= 0) say_hello(socket, hello, &memory, memory >= 0);
    pause_microseconds(500);
    if (socket >= 0) close(socket);
    if (memory >= 0) close(memory);
  }
  struct end ends[9];
  if (!meet(&ends[0], path, LANE_CAPACITY)) return;
  int count = 1 + take_ports(&ends[0], ends + 1, 8);
  for (int i = 0; i < count; i++) {
    struct gift gift;
    struct end ours;
    for (int j = 0; j < 4; j++) race_port(&ends[i]);
    if (below(2) == 0) {
      seal_later(&ends[i]);
    } else if (make_gift(&gift, &ours)) {
      int file = strange_file(), parts = -1;
      if (below(2) == 0) {
        close(gift.fds[1]);
        gift.fds[1] = file;
      } else {
        gift.words[0] |= 0x100;
        gift.words[13] = 1 + below(1 << 20);
        gift.words[14] = below(gift.words[13]);
        parts = file;
      }
      give(&ends[i], &gift, 1, 1, parts);
      let_go(&ours);
    }
  }
  pause_microseconds(20000);
  for (int i = 0; i < count; i++) let_go(&ends[i]);
}
