// Says what no value can be: bytes of all kinds, for whoever decodes them.

#include "../attacker.h"

/// Something like a message of the default coder: its version, then tags, lengths and bytes at random.
static uint32_t make_message(uint8_t *bytes) {
  static const uint8_t tags[] = {
    0x00, 0x7f, 0x80, 0x81, 0x8f, 0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xd0, 0xd3, 0xd9, 0xda, 0xdb, 0xe0, 0xe3, 0xe4, 0xe5, 0xff};
  uint32_t count = 0, wanted = (uint32_t)below(1000);
  bytes[count++] = below(20) == 0 ? (uint8_t)below(256) : 0xb1;
  while (count < wanted) {
    switch (below(4)) {
    case 0:  // a length
      bytes[count++] = (uint8_t)below(40);
      for (int i = 0; i < 3; i++) bytes[count++] = below(50) == 0 ? 0xff : 0;
      break;
    case 1: bytes[count++] = (uint8_t)below(256); break;
    default: bytes[count++] = tags[below(sizeof tags)];
    }
  }
  return count;
}

void attack_bytes(const char *path) {
  struct end ends[9];
  if (!meet(&ends[0], path, 64 << 10)) return;
  int count = 1 + take_ports(&ends[0], ends + 1, 8);
  uint8_t bytes[1100];
  for (int round = 0; round < 100; round++) {
    // Behind the length of a name, which is empty, on the connection.
    memset(bytes, 0, 2);
    struct end *end = &ends[below(count)];
    bool isNamed = end == &ends[0];
    uint32_t size = below(4) == 0 ? (uint32_t)below(18) : make_message(bytes + (isNamed ? 2 : 0));
    for (uint32_t i = isNamed ? 2 : 0; size < 18 && i < size; i++) bytes[i] = (uint8_t)below(256);
    post(end, bytes, size + (isNamed ? 2 : 0));
    if (round % 16 == 0) pause_microseconds(500);
  }
  for (int i = 0; i < count; i++) let_go(&ends[i]);
}
