// Closing what may take as long as somebody else likes: a socket that lingers, a file whose file system is a peer's
// own, a socket that holds packets with such descriptors in them, the memory of a large file. Some threads do it, which
// start when they are needed and end when they have been idle for a while.

#define _GNU_SOURCE
#include "CSupport.h"
#include "new_descriptor.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/// One descriptor that takes its time must not keep the others waiting. Whoever can send more than so many of these
/// keeps those that come later waiting, and nothing else.
enum { MOST_THREADS = 4, IDLE_SECONDS = 2, GROUPS = TRACKED_DESCRIPTORS / 64 };

/// A third of what a thread of the program's gets where all want a processor.
enum { CLOSER_NICENESS = 5 };

/// As many as come with two packets. If more wait, whoever has had to close such before takes in no others.
enum { MANY = 512 };
/// If so many wait, nobody does: each of a thousand channels may bring a packet before it is known for that.
enum { TOO_MANY = 4 * MANY };

/// A bit for each number that is to be closed: a queue that needs no memory, and takes no lock that a fork could copy.
static _Atomic uint64_t doomed[GROUPS];
/// Of those, sockets to be emptied first.
static _Atomic uint64_t full[GROUPS];
/// Of those, what another process has by now, too.
static _Atomic uint64_t sent[GROUPS];
/// Which groups may have any that are to be closed.
static _Atomic uint64_t marked[GROUPS / 64];
/// Counts the hand-overs. Idle threads sleep on it.
static _Atomic uint32_t calls;
static atomic_int threads, idle, busy;
/// How many descriptors are to be closed.
static atomic_int waiting;
/// A thread could not be started, though something may take long.
static atomic_bool is_stranded;

// All of it sequentially consistent: a thread that leaves says so before it looks for the last time, and whoever hands
// something over does that before looking for a thread.

static void doom(int fd) {
  atomic_fetch_add(&waiting, 1);
  atomic_fetch_or(&doomed[fd / 64], 1ull << (fd % 64));
  atomic_fetch_or(&marked[fd / 64 / 64], 1ull << (fd / 64 % 64));
}

/// Pages to be given back.
struct hole {
  struct hole *next;
  int fd;
  uint64_t offset, bytes;
};
static _Atomic(struct hole *) holes;

static bool is_anything_left(void) {
  if (atomic_load(&holes) != NULL) return true;
  for (int block = 0; block < GROUPS / 64; block += 1) {
    if (atomic_load(&marked[block]) != 0) return true;
  }
  return false;
}

/// -1: there is none.
static int take_doomed(void) {
  for (int block = 0; block < GROUPS / 64; block += 1) {
    for (uint64_t marks = atomic_load(&marked[block]); marks != 0; marks &= marks - 1) {
      const int offset = __builtin_ctzll(marks), group = block * 64 + offset;
      // The mark first: whoever dooms another one sets it again.
      atomic_fetch_and(&marked[block], ~(1ull << offset));
      uint64_t bits = atomic_load(&doomed[group]);
      while (bits != 0) {
        const uint64_t lowest = bits & -bits;
        const uint64_t before = atomic_fetch_and(&doomed[group], ~lowest);
        bits = before & ~lowest;
        if ((before & lowest) == 0) continue;  // another thread was quicker
        if (bits != 0) atomic_fetch_or(&marked[block], 1ull << offset);
        return group * 64 + __builtin_ctzll(lowest);
      }
    }
  }
  return -1;
}

static bool stop_lingering(int fd) {
  const struct linger none = {0};
  return setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none) == 0;
}

/// Whoever had it emptied receives no more, and nobody sends: there is an end to it.
static void drain(int fd) {
  // The end looks like an empty packet, and behind such a packet there may be others.
  for (int ends = 0; ends < MANY;) {
    // No room for descriptors: the kernel closes them, on this thread, and they never get a number.
    struct msghdr message = {0};
    const ssize_t count = recvmsg(fd, &message, MSG_DONTWAIT);
    if (count < 0 && errno != ECONNRESET) return;
    if (count == 0 && (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0) ends += 1;
  }
}

// ---- processes that are being born ------------------------------------------------------------------------------------

// A new process has a copy of every descriptor until it is another program. If this process closed its own meanwhile, the
// copy's close would be the last one, and the new program would begin as late as whoever sent the descriptor likes.

/// A bit for each process that has copies. The threads that close sleep on it.
static _Atomic uint32_t births;
/// Bits that are somebody's, until the process that is being born is known to have come to another program or to its end.
static _Atomic uint32_t expected;
/// What each of those threads is closing; -1: nothing.
static atomic_int closing[MOST_THREADS] = {-1, -1, -1, -1};

/// Closes once nobody else is about to have a copy.
static void close_alone(int fd) {
  int place = 0;
  for (int none = -1; !atomic_compare_exchange_strong(&closing[place], &none, fd); none = -1) {
    place = (place + 1) % MOST_THREADS;
  }
  // Sequentially consistent, as in hold_closers: either this thread sees the birth, or that one sees this descriptor.
  for (uint32_t seen = atomic_load(&births); seen > 0; seen = atomic_load(&births)) {
    atomic_store(&closing[place], -1);
    syscall(SYS_futex, &births, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, seen, NULL, NULL, 0);
    for (int none = -1; !atomic_compare_exchange_strong(&closing[place], &none, fd); none = -1) {
      place = (place + 1) % MOST_THREADS;
    }
  }
  csupport_close(fd);
  atomic_store(&closing[place], -1);
}

uint32_t hold_closers(void) {
  uint32_t others = atomic_load(&expected), birth;
  do {
    // So many at once that there is no bit left: one of them is over soon.
    while (others == UINT32_MAX) {
      sched_yield();
      others = atomic_load(&expected);
    }
    birth = ~others & (others + 1);
  } while (!atomic_compare_exchange_weak(&expected, &others, others | birth));
  atomic_fetch_or(&births, birth);
  for (int place = 0; place < MOST_THREADS; place += 1) {
    // A close may take its time, but the number is free right after it has begun. Unless somebody else has it by then:
    // this is to be waited for no longer than a thread takes that was interrupted there.
    const struct timespec moment = {.tv_nsec = 50 * 1000};
    for (int looks = 0; looks < 100; looks += 1) {
      const int fd = atomic_load(&closing[place]);
      if (fd < 0 || fcntl(fd, F_GETFD) < 0) break;
      nanosleep(&moment, NULL);
    }
  }
  return birth;
}

UNINSTRUMENTED void let_closers_go(uint32_t birth) {
  atomic_fetch_and(&births, ~birth);
  syscall(SYS_futex, &births, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, MOST_THREADS, NULL, NULL, 0);
}

void end_birth(uint32_t birth) {
  let_closers_go(birth);
  atomic_fetch_and(&expected, ~birth);
}

// ---- the threads ------------------------------------------------------------------------------------------------------

static void run(void *unused);

enum { LEAST_PIECE_BYTES = 4 << 20 };

static void punch(void) {
  struct hole *hole = atomic_exchange(&holes, NULL);
  while (hole != NULL) {
    struct hole *next = hole->next;
    // In pieces: whoever makes the file longer waits for each. A range that large is empty for the most part.
    const uint64_t piece = hole->bytes >> 10 > LEAST_PIECE_BYTES ? hole->bytes >> 10 : LEAST_PIECE_BYTES;
    for (uint64_t done = 0; done < hole->bytes; done += piece) {
      const uint64_t rest = hole->bytes - done;
      csupport_memory_discard(hole->fd, hole->offset + done, rest < piece ? rest : piece);
    }
    csupport_close(hole->fd);
    free(hole);
    hole = next;
  }
}

/// Sees to it that some thread looks. `false`: there is none, and none can be had.
static bool summon(void) {
  atomic_fetch_add(&calls, 1);
  if (atomic_load(&idle) > 0) {
    syscall(SYS_futex, &calls, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, NULL, NULL, 0);
    return true;
  }
  if (atomic_fetch_add(&threads, 1) < MOST_THREADS) {
    if (csupport_thread_start("messageports-cl", run, NULL) >= 0) return true;
    // Those that there are may all be held up: whoever closes something next, or asks how far it has come, tries again.
    atomic_store(&is_stranded, true);
  }
  return atomic_fetch_sub(&threads, 1) > 1;
}

static void run(void *unused) {
  (void)unused;
  // Whoever makes others close a lot must not have their processors for it.
  setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), CLOSER_NICENESS);
  while (true) {
    const uint32_t seen = atomic_load(&calls);
    for (int fd = take_doomed(); fd >= 0; fd = take_doomed()) {
      if (is_anything_left()) summon();
      // A socket's owner may want it to linger; but if another one does already, it is not an accident.
      const uint64_t bit = 1ull << (fd % 64);
      const bool is_sent = (atomic_fetch_and(&sent[fd / 64], ~bit) & bit) != 0;
      if (atomic_fetch_add(&busy, 1) > 0 && !is_sent) stop_lingering(fd);
      if ((atomic_fetch_and(&full[fd / 64], ~bit) & bit) != 0) drain(fd);
      close_alone(fd);
      atomic_fetch_sub(&waiting, 1);
      atomic_fetch_sub(&busy, 1);
    }
    punch();
    const struct timespec limit = {.tv_sec = IDLE_SECONDS};
    atomic_fetch_add(&idle, 1);
    const long result = syscall(SYS_futex, &calls, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, seen, &limit, NULL, 0);
    const bool is_bored = result < 0 && errno == ETIMEDOUT;
    atomic_fetch_sub(&idle, 1);
    if (!is_bored) continue;
    atomic_fetch_sub(&threads, 1);
    if (!is_anything_left()) return;
    atomic_fetch_add(&threads, 1);
  }
}

void csupport_close_elsewhere(int fd) {
  if (fd < 0) return;
  if (fd < TRACKED_DESCRIPTORS) {
    doom(fd);
    if (summon()) return;
    // Without a thread, what is known not to take long, once it does not linger, is closed here.
    if (!stop_lingering(fd)) {
      atomic_store(&is_stranded, true);
      return;
    }
    const uint64_t bit = 1ull << (fd % 64);
    atomic_fetch_and(&full[fd / 64], ~bit);
    atomic_fetch_and(&sent[fd / 64], ~bit);
    if ((atomic_fetch_and(&doomed[fd / 64], ~bit) & bit) == 0) return;
    atomic_fetch_sub(&waiting, 1);
  }
  csupport_close(fd);
}

/// So many of a process's own, that others should not run out of numbers for them.
enum { SOME = 32 };

void csupport_close_sent_elsewhere(int fd) {
  if (fd >= 0 && fd < TRACKED_DESCRIPTORS) atomic_fetch_or(&sent[fd / 64], 1ull << (fd % 64));
  csupport_close_elsewhere(fd);
  if (atomic_load_explicit(&waiting, memory_order_relaxed) <= SOME) return;
  // The lowest free number is always the next: half of them are in use. The threads need a processor more than whoever
  // goes on like this; but if they are held up, that is not to be waited for.
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || (rlim_t)fd < limit.rlim_cur / 2) return;
  nanosleep(&(struct timespec){.tv_nsec = 50 * 1000}, NULL);
}

bool csupport_closing_is_behind(bool is_suspect) {
  close_what_is_stranded();
  return atomic_load_explicit(&waiting, memory_order_relaxed) > (is_suspect ? MANY : TOO_MANY);
}

int csupport_socket_drain_elsewhere(int fd) {
  int copy = new_descriptor(fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
  if (copy < 0) return copy;
  if (copy < TRACKED_DESCRIPTORS) atomic_fetch_or(&full[copy / 64], 1ull << (copy % 64));
  csupport_close_elsewhere(copy);
  return 0;
}

void close_what_is_stranded(void) {
  // Relaxed: a look in vain costs nothing, and there will be another.
  if (!atomic_load_explicit(&is_stranded, memory_order_relaxed)) return;
  if (atomic_exchange(&is_stranded, false) && !summon()) atomic_store(&is_stranded, true);
}

void give_up_closing(void) {
  atomic_store(&threads, 0);
  atomic_store(&idle, 0);
  atomic_store(&busy, 0);
  atomic_store(&waiting, 0);
  atomic_store(&is_stranded, false);
  atomic_store(&holes, NULL);
  atomic_store(&births, 0);
  atomic_store(&expected, 0);
  for (int place = 0; place < MOST_THREADS; place += 1) atomic_store(&closing[place], -1);
  // No object stands for these any more.
  for (int fd = take_doomed(); fd >= 0; fd = take_doomed()) {
    atomic_fetch_and(&full[fd / 64], ~(1ull << (fd % 64)));
    atomic_fetch_and(&sent[fd / 64], ~(1ull << (fd % 64)));
    stop_lingering(fd);
    close_descriptor(fd);
  }
}

// ---- what is known ---------------------------------------------------------------------------------------------------

/// Freeing so much takes a millisecond or more.
enum { LARGE_FILE_BYTES = 16 << 20 };

void csupport_memory_close(int fd) {
  struct csupport_file_facts facts;
  if (csupport_file_facts(fd, &facts) == 0 && facts.allocated_bytes > LARGE_FILE_BYTES) {
    csupport_close_elsewhere(fd);
  } else {
    csupport_close(fd);
  }
}

/// Giving so much back takes some milliseconds.
enum { LARGE_HOLE_BYTES = 32 << 20 };

int csupport_memory_discard_elsewhere(int fd, uint64_t offset, uint64_t bytes) {
  // Most of a large range may never have been written.
  struct csupport_file_facts facts;
  const bool is_large = bytes > LARGE_HOLE_BYTES && csupport_file_facts(fd, &facts) == 0 &&
                        facts.allocated_bytes > LARGE_HOLE_BYTES;
  struct hole *hole = is_large ? malloc(sizeof *hole) : NULL;
  int copy = hole != NULL ? new_descriptor(fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1)) : -EMFILE;
  if (copy < 0) {
    free(hole);
    return csupport_memory_discard(fd, offset, bytes);
  }
  *hole = (struct hole){.fd = copy, .offset = offset, .bytes = bytes, .next = atomic_load(&holes)};
  while (!atomic_compare_exchange_weak(&holes, &hole->next, hole)) {
  }
  if (!summon()) punch();
  return 0;
}

enum queue { NOTHING_WAITS, SOMETHING_WAITS, ENDED_OR_EMPTY_PACKET };

static enum queue look_at_queue(int fd) {
  while (true) {
    // No room for anything: a packet says that it was cut.
    struct msghdr message = {0};
    const ssize_t count = recvmsg(fd, &message, MSG_PEEK | MSG_DONTWAIT);
    if (count > 0 || (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) return SOMETHING_WAITS;
    if (count == 0) return ENDED_OR_EMPTY_PACKET;
    if (errno != ECONNRESET) return NOTHING_WAITS;  // that is said once
  }
}

/// Whether something waits that has not been received.
static bool holds_packets(int fd) {
  enum queue queue = look_at_queue(fd);
  if (queue == ENDED_OR_EMPTY_PACKET && csupport_socket_is_hung_up(fd) == 1) {
    // An empty packet looks like the end, and may have others behind it; with its sender's name it does not. Only on a
    // socket that nobody will send through any more: the kernel gives one that tells names a name of its own at the next
    // packet, and this one may be another process's by now.
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
    queue = look_at_queue(fd);
    on = 0;
    setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
    return queue == SOMETHING_WAITS;
  }
  return queue != NOTHING_WAITS;
}

void csupport_socket_close(int fd) {
  // Closing it closes what is in the packets, and that may take long.
  if (holds_packets(fd)) {
    csupport_close_elsewhere(fd);
  } else {
    csupport_close(fd);
  }
}
