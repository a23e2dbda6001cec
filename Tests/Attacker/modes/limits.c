// Asks for limits that the victim did not offer, and then uses them: messages of 32 MiB, and a queue that nobody reads.

#include "../attacker.h"

enum { LARGE = 32 << 20 };

/// Announces a large message and posts it as far as it is let.
static void post_large(struct end *end) {
  static uint8_t bytes[128 << 10];
  uint32_t piece = end->capacity > sizeof bytes * 3 ? sizeof bytes : (uint32_t)end->capacity / 4;
  uint64_t left = LARGE;
  memcpy(bytes, &(uint64_t){LARGE}, 8);
  for (int kind = FIRST; left > 0; kind = left > piece ? MIDDLE : LAST) {
    uint32_t count = left < piece ? (uint32_t)left : piece;
    for (int i = 0; !has_room(end, count); i++) {
      if (i == 50) return;
      signal_anyway(end);
      pause_microseconds(200);
    }
    put(end, kind, 0, bytes, count);
    signal_victim(end);
    left -= kind == FIRST ? count - 8 : count;
  }
}

void attack_limits(const char *path) {
  struct end ends[9], ours;
  if (!meet(&ends[0], path, below(2) == 0 ? LANE_CAPACITY : 2 << 20)) return;
  int count = 1 + take_ports(&ends[0], ends + 1, 8);
  struct gift gift;
  // A port with its own limits: the end that stays here is the large message's poster.
  if (make_gift(&gift, &ours)) {
    if (give(&ends[0], &gift, 1, 1, -1)) post_large(&ours);
    if (below(2) == 0) post_large(&ends[0]);
    // Nothing is read meanwhile: what the victim posts has to find its limit.
    pause_microseconds(300000);
    let_go(&ours);
  }
  for (int i = 0; i < count; i++) let_go(&ends[i]);
}
