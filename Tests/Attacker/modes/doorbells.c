// Keeps the victim busy, or deaf: writes into the doorbells all the time, and announces what never comes.

#include "../attacker.h"

static void scribble(const struct end *end) {
  for (int lane = 0; lane < 2; lane++) {
    uint32_t value = below(4) == 0 ? (uint32_t)below(UINT32_MAX) : (uint32_t)below(5);
    atomic_store(doorbell(end, lane, below(2) == 0 ? MESSAGE_DOORBELL : SPACE_DOORBELL), value);
  }
}

void attack_doorbells(const char *path) {
  struct end ends[9];
  if (!meet(&ends[0], path, LANE_CAPACITY)) return;
  int count = 1 + take_ports(&ends[0], ends + 1, 8);
  uint64_t over = milliseconds() + 100 + below(900);
  // Of either kind: words that change all the time, and words that say the same for good.
  bool isQuiet = below(3) == 0;
  for (int i = 0; isQuiet && i < count; i++) scribble(&ends[i]);
  while (milliseconds() < over) {
    for (int i = 0; i < count; i++) {
      if (!isQuiet) scribble(&ends[i]);
      if (below(200) == 0) post(&ends[i], "something", 9);
      if (below(100) == 0) signal_anyway(&ends[i]);
    }
    if (isQuiet || below(20) == 0) pause_microseconds(100);
  }
  // A first fragment, behind which nothing comes.
  uint64_t total[2] = {1000, 0};
  for (int i = 0; i < count; i++)
    if (has_room(&ends[i], 16)) put(&ends[i], FIRST, 0, total, 16);
  for (int i = 0; i < count; i++) let_go(&ends[i]);
}
