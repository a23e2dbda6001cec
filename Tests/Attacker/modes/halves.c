// Hangs up one half of its sockets and stays; and waits for clients of the victim's as a server that is none.

#include "../attacker.h"

#include <stdio.h>

enum { KEPT = 16 };

static struct end kept[KEPT];
static int next_kept;
static int listener = -1;

/// Answers a client that should find no message port here.
static void serve(const char *path) {
  if (listener < 0) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%.90s.foreign", path);
    listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    unlink(address.sun_path);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 8) < 0) return;
  }
  int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (client < 0) return;
  uint64_t words[4] = {below(2) == 0 ? WELCOME_MAGIC : below(UINT64_MAX), VERSION | below(5) << 32, 0, 0};
  // Anything but the welcome of a message port.
  if (words[0] == WELCOME_MAGIC && words[1] == VERSION) words[1] |= (uint64_t)9 << 32;
  switch (below(4)) {
  case 0: break;
  case 1: send_packet(client, "220 ready\r\n", 11, NULL, 0); break;
  case 2: send_packet(client, words, below(2) == 0 ? 16 : below(32) + 1, &client, (int)below(2)); break;
  default: shutdown(client, (int)below(2)); pause_microseconds(1000);
  }
  close(client);
}

void attack_halves(const char *path) {
  serve(path);
  struct end ends[9];
  if (!meet(&ends[0], path, LANE_CAPACITY)) return;
  int count = 1 + take_ports(&ends[0], ends + 1, 8);
  if (count > 1) {
    // Says so first, for the victim to know what it has to find out.
    post(&ends[1], "half", 4);
    shutdown(ends[1].socket, below(2) == 0 ? SHUT_RD : SHUT_WR);
    struct end *place = &kept[next_kept++ % KEPT];
    if (place->page != NULL) let_go(place);
    *place = ends[1];
  }
  for (int i = 2; i < count; i++) {
    shutdown(ends[i].socket, (int)below(2));
    post(&ends[i], "more", 4);
  }
  serve(path);
  pause_microseconds(400000);
  for (int i = 0; i < count; i++)
    if (i != 1) let_go(&ends[i]);
}
