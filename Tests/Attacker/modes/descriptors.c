// Sends descriptors whose closing takes long: sockets with unsent data, that linger.

#include "../attacker.h"

#include <netinet/in.h>
#include <pthread.h>

enum { KEPT = 256 };

/// The far ends of what was sent, which never read.
static int far_ends[KEPT], kept;

/// A socket that its last owner closes for 20 s; -1 if there is no network here.
int lingering(void) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof address;
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), small = 2048;
  setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
  int fd = -1;
  if (bind(listener, (struct sockaddr *)&address, length) == 0 && listen(listener, 1) == 0
      && getsockname(listener, (struct sockaddr *)&address, &length) == 0) {
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *)&address, length) == 0) {
      int far = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
      int *place = &far_ends[kept++ % KEPT];
      if (*place > 0) close(*place);
      *place = far;
      struct linger wait = {1, 20};
      setsockopt(fd, SOL_SOCKET, SO_LINGER, &wait, sizeof wait);
      static char bytes[1 << 16];
      while (send(fd, bytes, sizeof bytes, MSG_DONTWAIT | MSG_NOSIGNAL) > 0) continue;
    } else {
      close(fd);
      fd = -1;
    }
  }
  close(listener);
  return fd;
}

static void *close_on_thread(void *fd) {
  close((int)(intptr_t)fd);
  return NULL;
}

/// Closes what was sent, for which the victim may have been quicker: then it is this process that waits.
void leave(int fd, bool isSent) {
  pthread_t thread;
  if (fd < 0) return;
  if (isSent && pthread_create(&thread, NULL, close_on_thread, (void *)(intptr_t)fd) == 0) {
    pthread_detach(thread);
    return;
  }
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
  close(fd);
}

void attack_descriptors(const char *path) {
  // In a hello: as the memory, and beside it.
  int socket = connect_to(path), fds[2] = {lingering(), lingering()};
  bool isSent = false;
  if (socket >= 0 && fds[0] >= 0 && fds[1] >= 0) {
    uint64_t hello[4] = {HELLO_MAGIC, VERSION, UINT64_MAX, 1 << 20};
    isSent = below(2) == 0 ? say_hello(socket, hello, fds, 2) : send_packet(socket, "nonsense", 8, fds, 2);
  }
  leave(fds[0], isSent);
  leave(fds[1], isSent);
  pause_microseconds(2000);
  if (socket >= 0) close(socket);

  struct end ends[9];
  if (!meet(&ends[0], path, LANE_CAPACITY)) return;
  int count = 1 + take_ports(&ends[0], ends + 1, 8);
  for (int i = 0; i < count; i++) {
    int fd = lingering();
    if (fd < 0) break;
    struct gift gift;
    struct end ours;
    switch (below(4)) {
    case 0:  // with a doorbell
      leave(fd, send_packet(ends[i].socket, "\1", 1, &fd, 1));
      break;
    case 1:  // in a packet that nobody announced
      leave(fd, send_packet(ends[i].socket, "what is this", 12, &fd, 1));
      break;
    default:  // as a port's socket or memory, or as one descriptor too many
      if (!make_gift(&gift, &ours)) {
        leave(fd, false);
        break;
      }
      int which = (int)below(3), copy = fcntl(fd, F_DUPFD_CLOEXEC, 3), parts = which == 2 ? copy : -1;
      if (which < 2) {
        close(gift.fds[which]);
        gift.fds[which] = copy;
      }
      leave(fd, give(&ends[i], &gift, 1, 1, parts));
      let_go(&ours);
    }
    signal_anyway(&ends[i]);
  }
  pause_microseconds(20000);
  for (int i = 0; i < count; i++) let_go(&ends[i]);
}
