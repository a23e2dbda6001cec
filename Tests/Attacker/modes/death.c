// Hides its death: leaves the ends that it holds in the victim's own queues, then dies.

#include "../attacker.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

/// Sends an end's own socket through it, in a packet that no record announces.
static void hide(struct end *end, int carried) {
  struct gift gift = {
    .words = {(uint64_t)end->number, UINT64_MAX, 1 << 20, 0, LANE_CAPACITY, 0, 0, 0, 0, LANE_CAPACITY, 0, 0, 0, 0, 0, 0},
    .fds = {fcntl(carried, F_DUPFD_CLOEXEC, 3), fcntl(end->memory, F_DUPFD_CLOEXEC, 3)}};
  switch (below(3)) {
  case 0:
    send_gifts(end->socket, &gift, 1, -1);
    break;
  case 1:
    send_packet(end->socket, "\1", 1, gift.fds, 1);
    close_all(gift.fds, 2);
    break;
  default:  // announced as well: then whoever takes the message holds it
    give(end, &gift, 1, 1, -1);
  }
}

void attack_death(const char *path) {
  // Nobody else holds what the child makes. Each does something else.
  below(2);
  pid_t child = fork();
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    struct end ends[9];
    if (!meet(&ends[0], path, LANE_CAPACITY)) _exit(0);
    int count = 1 + take_ports(&ends[0], ends + 1, 8);
    for (int i = 0; i < count; i++) hide(&ends[i], ends[below(2) == 0 ? i : (int)below(count)].socket);
    pause_microseconds((unsigned)below(5000));
    kill(getpid(), SIGKILL);
  }
  if (child > 0) waitpid(child, NULL, 0);
  pause_microseconds(5000);
}
