// Limits of io_uring: a round trip in which each side makes one call per direction, which wakes the other and sleeps until
// it is woken. Both rings are made before the fork, so that either side can name the other's.
#include <sys/eventfd.h>

#include "limits.h"

static void check(int result, const char *call) {
  errno = result < 0 ? -result : 0;
  if (result < 0) peers_die("%s failed", call);
}

static struct io_uring rings[2];

void open_rings(struct limits_run *run) {
  for (int i = 0; i < 2; i++) check(io_uring_queue_init(8, &rings[i], 0), "io_uring_setup");
  run->rings = rings;
}

void close_rings(struct limits_run *run) {
  for (int i = 0; i < 2; i++) io_uring_queue_exit(&rings[i]);
  run->rings = NULL;
}

/// Submits what is prepared, sleeps until something has completed, and takes it.
static uint64_t submit_and_take(struct io_uring *ring, int *result) {
  struct io_uring_cqe *completion;
  int submitted;
  do submitted = io_uring_submit_and_wait(ring, 1);
  while (submitted == -EINTR);
  check(submitted, "io_uring_enter");
  check(io_uring_peek_cqe(ring, &completion), "no completion");
  if (completion->res < 0) check(completion->res, "an operation of io_uring");
  *result = completion->res;
  uint64_t data = completion->user_data;
  io_uring_cqe_seen(ring, completion);
  return data;
}

// MARK: - Messages from ring to ring

static void prepare_message(struct io_uring *ring, struct io_uring *other, uint32_t sequence) {
  struct io_uring_sqe *entry = io_uring_get_sqe(ring);
  io_uring_prep_msg_ring(entry, other->ring_fd, 0, sequence, 0);
  entry->flags |= IOSQE_CQE_SKIP_SUCCESS;  // The other side hears of it; this one need not.
}

void ring_message_ask(struct limits_run *run) {
  struct io_uring *own = &run->rings[0], *other = &run->rings[1];
  int result;
  limits_meet(run);
  LIMITS_ASK_REPEATEDLY(run, sequence, {
    prepare_message(own, other, sequence);
    if (submit_and_take(own, &result) != sequence) peers_die("msg_ring: wrong answer");
  });
  prepare_message(own, other, LIMITS_LAST);
  check(io_uring_submit(own), "io_uring_enter");
}

void ring_message_answer(struct limits_run *run) {
  struct io_uring *own = &run->rings[1], *other = &run->rings[0];
  int result;
  limits_meet(run);
  for (uint64_t sequence; (sequence = submit_and_take(own, &result)) != LIMITS_LAST;) {
    prepare_message(own, other, (uint32_t)sequence);
  }
}

// MARK: - Eventfds, written and read by the ring

void open_rings_and_eventfds(struct limits_run *run) {
  open_rings(run);
  run->there[0] = run->there[1] = (int)peers_check(eventfd(0, EFD_CLOEXEC), "eventfd");
  run->back[0] = run->back[1] = (int)peers_check(eventfd(0, EFD_CLOEXEC), "eventfd");
}

static void prepare_write(struct io_uring *ring, int fd, const uint64_t *count) {
  struct io_uring_sqe *entry = io_uring_get_sqe(ring);
  io_uring_prep_write(entry, fd, count, sizeof *count, 0);
  entry->flags |= IOSQE_CQE_SKIP_SUCCESS;
}

static uint64_t submit_and_read(struct io_uring *ring, int fd) {
  uint64_t count = 0;
  int result;
  io_uring_prep_read(io_uring_get_sqe(ring), fd, &count, sizeof count, 0);
  submit_and_take(ring, &result);
  if (result != sizeof count) peers_die("eventfd: %d bytes", result);
  return count;
}

void ring_eventfd_ask(struct limits_run *run) {
  struct io_uring *own = &run->rings[0];
  uint64_t count;
  limits_meet(run);
  LIMITS_ASK_REPEATEDLY(run, sequence, {
    count = sequence;
    prepare_write(own, run->there[1], &count);
    if (submit_and_read(own, run->back[0]) != sequence) peers_die("eventfd: wrong answer");
  });
  count = LIMITS_LAST;  // not by the ring, whose workers end with this process
  if (write(run->there[1], &count, sizeof count) != sizeof count) peers_die("eventfd: write failed");
}

void ring_eventfd_answer(struct limits_run *run) {
  struct io_uring *own = &run->rings[1];
  limits_meet(run);
  for (uint64_t sequence; (sequence = submit_and_read(own, run->there[0])) != LIMITS_LAST;) {
    prepare_write(own, run->back[1], &sequence);  // goes with the call that reads the next, which leaves it alone till then
  }
}
