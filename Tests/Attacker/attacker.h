// A program that attacks whoever uses the library. It was written from the article on the protocol: it knows the bytes
// and the system's calls, and has no code of the library in it.

#ifndef ATTACKER_H
#define ATTACKER_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

// MARK: - Memory

enum {
  PAGE = 4096,
  LANE_CAPACITY = 1536,   // what fits beside the header in one page, twice
  LANES = 0x80,           // where the lanes begin, and how long each is
  LANE_BYTES = 0x180,
  CLOSED = 0x008,         // offsets in a lane
  RELEASED = 0x080,
  MESSAGE_DOORBELL = 0x100,
  SPACE_DOORBELL = 0x104,
  UNUSED_WORD = 0x380,    // nobody looks here
  DATA = 0x400,
  KEPT_FREE = 136,        // the end of a lane that messages leave free, with the header behind them
};
#define REGION(lane) ((uint64_t)((lane) + 1) << 40)

enum { MESSAGE = 1, PAD, LINK, FIRST, MIDDLE, LAST, ABORT, RUN, WITHDRAWAL };
enum { AWAKE, ASLEEP_ON_WORD, ASLEEP_ON_SOCKET, POLLING };

#define CHANNEL_MAGIC 0x54524f5047534d01
#define HELLO_MAGIC 0x4f4c4c4548504d01
#define WELCOME_MAGIC 0x4d4f434c45574d01
#define PORTS_MAGIC 0x54504d02
#define VERSION 3

/// The seals that a channel's memory has, with one against execution where the kernel knows it.
#define SEALED (F_SEAL_SHRINK | F_SEAL_SEAL)

// MARK: - Channels

/// One end of a channel. It posts on the lane of its number, and the victim on the other.
struct end {
  int socket, memory, number;
  uint8_t *page;       // the header and both lanes' first data
  size_t mapped;
  uint64_t capacity;   // of each lane's first data, in which this end stays
  uint64_t position;   // how much was posted
};

/// What travels with a port: 16 words, its socket and its memory. To be spoiled before it is sent.
struct gift {
  uint64_t words[16];
  int fds[2];
};

enum { MOST_PORTS = 126, MOST_FDS = 253 };

/// New memory of a channel, or something like it: whatever does not succeed is left out. -1 if there is none.
int make_memory(unsigned flags, off_t bytes, int seals, uint64_t capacity);
/// Connects to the victim's listener; -1 if there is none.
int connect_to(const char *path);
bool say_hello(int socket, const uint64_t words[4], const int *fds, int fd_count);
/// Connects, says hello, and waits to be let in.
bool meet(struct end *end, const char *path, uint64_t capacity);
/// Takes the ports that the victim sends everybody that it has let in. How many there are.
int take_ports(struct end *connection, struct end ports[], int most);
void let_go(struct end *end);

/// Whether a record of this size can be written without overwriting what nobody has read.
bool has_room(const struct end *end, uint32_t bytes);
/// Writes a record, of which nobody is told. `high` goes into the header's number of ports.
void put(struct end *end, int kind, uint16_t high, const void *payload, uint32_t bytes);
/// Tells the victim, as a correct peer does.
void signal_victim(struct end *end);
/// Wakes the victim, whatever it says.
void signal_anyway(struct end *end);
/// A message; false if there is no room within a moment.
bool post(struct end *end, const void *payload, uint32_t bytes);

/// Makes a channel; `ours` keeps one end, and the gift carries the other.
bool make_gift(struct gift *gift, struct end *ours);
/// Sends ports, first the record that announces them and then the packet, with the file of their partial messages (-1 if
/// there is none). Closes the descriptors.
bool give(struct end *end, struct gift gifts[], int count, uint16_t announced, int parts);
/// The packet alone.
bool send_gifts(int socket, struct gift gifts[], int count, int parts);

/// Sends a message with a packet: the record announces `announced` (ports, and 256 times the descriptors), the packet says
/// `claimed` (and 65536 times the buffers among these), and `fds` come along. Closes nothing.
bool give_descriptors(struct end *end, uint16_t announced, uint32_t claimed, const int *fds, int count);

static inline _Atomic uint32_t *doorbell(const struct end *end, int lane, int which) {
  return (_Atomic uint32_t *)(end->page + LANES + lane * LANE_BYTES + which);
}
static inline _Atomic uint64_t *released(const struct end *end, int lane) {
  return (_Atomic uint64_t *)(end->page + LANES + lane * LANE_BYTES + RELEASED);
}

// MARK: - The system

/// A packet with descriptors, never waiting. Whether it was sent.
bool send_packet(int socket, const void *bytes, size_t count, const int *fds, int fd_count);
long futex(_Atomic uint32_t *word, int operation, uint32_t value, long value2, _Atomic uint32_t *word2, uint32_t value3);
/// A random number below `limit`.
uint64_t below(uint64_t limit);
uint64_t milliseconds(void);
void pause_microseconds(unsigned microseconds);
/// The same on the processor, for less than a sleep takes.
void spin(uint64_t nanoseconds);
void close_all(const int *fds, int count);
/// A socket that its last owner closes for 20 s; -1 if there is no network here.
int lingering(void);
/// Closes it where that takes no time; if it was sent, the victim may have been quicker.
void leave(int fd, bool isSent);

// MARK: - Modes

/// One round of an attack on whoever listens at `path`. It is called again and again.
typedef void attack(const char *path);
attack attack_requeue, attack_files, attack_descriptors, attack_limits, attack_turns, attack_doorbells, attack_death,
  attack_bytes, attack_halves, attack_cargo;

#endif
