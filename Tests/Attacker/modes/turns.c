// Makes one turn of the victim's long: much work in what counts as one.

#include "../attacker.h"

enum { SILENT = 1000, SHARED_FILE = 1 << 20 };

/// Rings full of fragments and aborts that come to nothing.
static void post_nothing(struct end ends[], int count) {
  uint64_t total[2] = {1000, 0}, over = milliseconds() + 300;
  while (milliseconds() < over) {
    bool isFull = true;
    for (int i = 0; i < count; i++) {
      struct end *end = &ends[i];
      while (has_room(end, 48)) {
        put(end, FIRST, 0, total, 16);
        put(end, MIDDLE, 0, total, 0);
        put(end, ABORT, 0, NULL, 0);
        isFull = false;
      }
      signal_victim(end);
    }
    if (isFull) pause_microseconds(50);
  }
}

/// Messages with as many ports as one may have.
static void give_many(struct end ends[], int count) {
  static struct gift gifts[MOST_PORTS];
  for (int round = 0; round < 16; round++) {
    int made = 0;
    for (; made < MOST_PORTS; made++) {
      struct end ours;
      if (!make_gift(&gifts[made], &ours)) break;
      let_go(&ours);
    }
    if (made > 0) give(&ends[below(count)], gifts, made, (uint16_t)made, -1);
  }
}

/// Doorbells that bring as many descriptors as a packet holds.
static void send_descriptors(struct end ends[], int count) {
  int fds[MOST_FDS], fd = make_memory(0, PAGE, SEALED, LANE_CAPACITY);
  for (int i = 0; i < MOST_FDS; i++) fds[i] = fd;
  uint64_t over = milliseconds() + 300;
  while (milliseconds() < over) {
    bool isFull = true;
    for (int i = 0; i < count; i++)
      if (send_packet(ends[i].socket, "\1", 1, fds, MOST_FDS)) isFull = false;
    if (isFull) pause_microseconds(100);
  }
  close(fd);
}

/// Ports that have received large parts of messages, all in one file; it may be shorter than the parts are together.
static void share_file(struct end *carrier) {
  static struct gift gifts[80];
  off_t bytes = below(2) == 0 ? SHARED_FILE : 80 * (off_t)SHARED_FILE;
  int file = make_memory(0, bytes, 0, LANE_CAPACITY), made = 0;
  if (file < 0) return;
  (void)!fallocate(file, 0, 0, bytes);
  fcntl(file, F_ADD_SEALS, SEALED);
  for (; made < 80; made++) {
    struct end ours;
    struct gift *gift = &gifts[made];
    if (!make_gift(gift, &ours)) break;
    let_go(&ours);
    gift->words[0] |= 0x100;
    gift->words[13] = SHARED_FILE;
    gift->words[14] = SHARED_FILE - 1;
  }
  give(carrier, gifts, made, (uint16_t)made, file);
}

/// Connections that say nothing.
static void be_silent(const char *path) {
  static int sockets[SILENT];
  int count = 0;
  for (; count < SILENT; count++)
    if ((sockets[count] = connect_to(path)) < 0) break;
  pause_microseconds(100000);
  close_all(sockets, count);
}

void attack_turns(const char *path) {
  uint64_t kind = below(5);
  if (kind == 4) return be_silent(path);
  struct end ends[9];
  if (!meet(&ends[0], path, 256 << 10)) return;
  int count = 1 + take_ports(&ends[0], ends + 1, 8);
  switch (kind) {
  case 0: post_nothing(ends, count); break;
  case 1: give_many(ends, count); break;
  case 2: send_descriptors(ends, count); break;
  default: share_file(&ends[0]);
  }
  pause_microseconds(20000);
  for (int i = 0; i < count; i++) let_go(&ends[i]);
}
