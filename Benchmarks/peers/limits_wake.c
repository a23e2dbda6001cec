// Limits of sleeping and waking: one round trip between two processes that both sleep in the kernel while they wait.
// Nobody spins, ever; each direction costs one call that wakes and one that sleeps.
#include <fcntl.h>
#include <linux/futex.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "limits.h"

// MARK: - Futex

static void post_word(_Atomic uint32_t *word, uint32_t value) {
  atomic_store(word, value);
  peers_check(syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0), "futex wake");
}

static uint32_t await_word(_Atomic uint32_t *word, uint32_t old) {
  uint32_t value;
  while ((value = atomic_load(word)) == old) {
    if (syscall(SYS_futex, word, FUTEX_WAIT, old, NULL, NULL, 0) < 0 && errno != EAGAIN && errno != EINTR) {
      peers_die("futex wait failed");
    }
  }
  return value;
}

void futex_ask(struct limits_run *run) {
  limits_meet(run);
  LIMITS_ASK_REPEATEDLY(run, sequence, {
    post_word(&run->shared->word_there, sequence);
    if (await_word(&run->shared->word_back, sequence - 1) != sequence) peers_die("futex: wrong answer");
  });
  post_word(&run->shared->word_there, LIMITS_LAST);
}

void futex_answer(struct limits_run *run) {
  limits_meet(run);
  for (uint32_t sequence = 0;;) {
    sequence = await_word(&run->shared->word_there, sequence);
    if (sequence == LIMITS_LAST) return;
    post_word(&run->shared->word_back, sequence);
  }
}

// MARK: - Eventfd

void open_eventfds(struct limits_run *run) {
  run->there[0] = run->there[1] = (int)peers_check(eventfd(0, EFD_CLOEXEC), "eventfd");
  run->back[0] = run->back[1] = (int)peers_check(eventfd(0, EFD_CLOEXEC), "eventfd");
}

static void post_event(int fd, uint64_t count) {
  if (write(fd, &count, 8) != 8) peers_die("eventfd: write failed");
}

static uint64_t await_event(int fd) {
  uint64_t count;
  if (read(fd, &count, 8) != 8) peers_die("eventfd: read failed");
  return count;
}

void eventfd_ask(struct limits_run *run) {
  limits_meet(run);
  LIMITS_ASK_REPEATEDLY(run, sequence, {
    post_event(run->there[1], sequence);
    if (await_event(run->back[0]) != sequence) peers_die("eventfd: wrong answer");
  });
  post_event(run->there[1], LIMITS_LAST);
}

void eventfd_answer(struct limits_run *run) {
  limits_meet(run);
  for (uint64_t sequence; (sequence = await_event(run->there[0])) != LIMITS_LAST;) post_event(run->back[1], sequence);
}

// MARK: - Sockets and pipes

void open_sockets(struct limits_run *run) {
  int pair[2];
  peers_check(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), "socketpair");
  run->there[1] = run->back[0] = pair[0];  // the asker's end
  run->there[0] = run->back[1] = pair[1];
}

void open_pipes(struct limits_run *run) {
  peers_check(pipe2(run->there, O_CLOEXEC), "pipe2");
  peers_check(pipe2(run->back, O_CLOEXEC), "pipe2");
}

static void post_message(int fd, uint8_t *message, size_t size, uint32_t sequence) {
  memcpy(message, &sequence, 4);
  if (write(fd, message, size) != (ssize_t)size) peers_die("message not written");
}

static uint32_t await_message(int fd, uint8_t *message, size_t size) {
  uint32_t sequence;
  if (read(fd, message, size) != (ssize_t)size) peers_die("message not read");  // under PIPE_BUF: never in parts
  memcpy(&sequence, message, 4);
  return sequence;
}

void message_ask(struct limits_run *run) {
  uint8_t message[4096] = {0};
  limits_meet(run);
  LIMITS_ASK_REPEATEDLY(run, sequence, {
    post_message(run->there[1], message, run->size, sequence);
    if (await_message(run->back[0], message, run->size) != sequence) peers_die("message: wrong answer");
  });
  post_message(run->there[1], message, run->size, LIMITS_LAST);
}

void message_answer(struct limits_run *run) {
  uint8_t message[4096] = {0};
  limits_meet(run);
  for (uint32_t sequence; (sequence = await_message(run->there[0], message, run->size)) != LIMITS_LAST;) {
    post_message(run->back[1], message, run->size, sequence);
  }
}
