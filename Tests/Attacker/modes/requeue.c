// Moves those who sleep on a doorbell to a word on which nobody wakes anybody.

#include "../attacker.h"

#include <limits.h>
#include <linux/futex.h>

static void move_sleepers(const struct end *end) {
  _Atomic uint32_t *nowhere = (_Atomic uint32_t *)(end->page + UNUSED_WORD);
  for (int lane = 0; lane < 2; lane++) {
    for (int which = MESSAGE_DOORBELL; which <= SPACE_DOORBELL; which += SPACE_DOORBELL - MESSAGE_DOORBELL) {
      _Atomic uint32_t *word = doorbell(end, lane, which);
      futex(word, FUTEX_REQUEUE, 0, INT_MAX, nowhere, 0);
      futex(word, FUTEX_CMP_REQUEUE, 0, INT_MAX, nowhere, atomic_load(word));
    }
  }
}

void attack_requeue(const char *path) {
  struct end ends[9];
  if (!meet(&ends[0], path, LANE_CAPACITY)) return;
  int count = 1 + take_ports(&ends[0], ends + 1, 8);
  uint64_t over = milliseconds() + 100 + below(900);
  while (milliseconds() < over) {
    for (int i = 0; i < count; i++) move_sleepers(&ends[i]);
    // Sometimes there is something to wake up for.
    if (below(50) == 0) post(&ends[below(count)], "to nobody", 9);
    pause_microseconds(200);
  }
  for (int i = 0; i < count; i++) let_go(&ends[i]);
}
