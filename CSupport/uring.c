// One io_uring. The only file that includes liburing.h; Debian 12 has liburing 2.3 and headers of Linux 6.1, so the
// futex operation, which needs Linux 6.7, is written out here.

#define _GNU_SOURCE
#include "CSupport.h"
#include "new_descriptor.h"

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
  OP_FUTEX_WAIT = 51,    // IORING_OP_FUTEX_WAIT
  FUTEX_SIZE_U32 = 2,    // FUTEX2_SIZE_U32, and not FUTEX2_PRIVATE
  COMPLETION_ENTRIES = 4096,
};

struct csupport_uring {
  struct io_uring ring;
};

// ---- setting up and tearing down ------------------------------------------------------------------------------------

static int setup(struct io_uring *ring, unsigned entries, unsigned completion_entries) {
  // DEFER_TASKRUN: completions are produced only while the owner is in io_uring_enter, never by interrupting it.
  // TASKRUN_FLAG: the kernel says in shared memory that there are some to produce, which saves asking.
  // SUBMIT_ALL: a refused operation gets its completion instead of ending the batch.
  const unsigned common = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
  const unsigned wanted = common | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                          IORING_SETUP_TASKRUN_FLAG;
  struct io_uring_params parameters = {.flags = wanted, .cq_entries = completion_entries};
  int result = io_uring_queue_init_params(entries, ring, &parameters);
  if (result == -EINVAL) {  // before Linux 6.1
    parameters = (struct io_uring_params){.flags = common, .cq_entries = completion_entries};
    result = io_uring_queue_init_params(entries, ring, &parameters);
  }
  if (result < 0) return result;
  // Without these (before Linux 5.11), liburing emulates time-outs with operations of its own, and a full completion
  // queue loses completions.
  const unsigned features = IORING_FEAT_EXT_ARG | IORING_FEAT_NODROP;
  if ((ring->features & features) != features) {
    io_uring_queue_exit(ring);
    return -ENOSYS;
  }
  int fd = new_descriptor(ring->ring_fd);
  if (fd < 0) {
    ring->ring_fd = ring->enter_ring_fd = -1;  // closed; what is left to give back is memory
    io_uring_queue_exit(ring);
    return fd;
  }
  // A forked child's mapping would keep the ring, and the sockets that it polls.
  io_uring_ring_dontfork(ring);
  ring->ring_fd = ring->enter_ring_fd = fd;
  return 0;
}

/// Whether the kernel has completions that are not in the queue yet.
static bool has_more_completions(const struct io_uring *ring) {
  // CQ_OVERFLOW: some found the queue full. TASKRUN: some can be produced now.
  return (IO_URING_READ_ONCE(*ring->sq.kflags) & (IORING_SQ_CQ_OVERFLOW | IORING_SQ_TASKRUN)) != 0;
}

/// Cancels everything that is pending, so that no waiter outlives the memory it waits on, and no poll keeps a closed
/// socket open: closing the ring would do the same, but some time later. On any thread but the owner's, this does
/// nothing.
static void cancel_everything(struct io_uring *ring) {
  struct io_uring_sync_cancel_reg request;
  memset(&request, 0, sizeof request);
  request.fd = -1;
  request.flags = IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL;
  // `request.timeout` stays 0. It would limit the wait for operations that a kernel worker is executing; ours never
  // leave this thread.
  if (io_uring_register_sync_cancel(ring, &request) < 0) return;
  // A cancelled operation lets go of its file when its completion is produced.
  do {
    io_uring_cq_advance(ring, io_uring_cq_ready(ring));
  } while (has_more_completions(ring) && io_uring_get_events(ring) >= 0);
}

static void tear_down(struct io_uring *ring) {
  cancel_everything(ring);
  forget_descriptor(ring->ring_fd);
  io_uring_queue_exit(ring);
}

int csupport_uring_create(unsigned entries, struct csupport_uring **ring) {
  *ring = NULL;
  struct csupport_uring *made = calloc(1, sizeof *made);
  if (made == NULL) return -ENOMEM;
  unsigned completion_entries = entries > COMPLETION_ENTRIES ? entries : COMPLETION_ENTRIES;
  int result = setup(&made->ring, entries, completion_entries);
  if (result < 0) {
    free(made);
    return result;
  }
  *ring = made;
  return 0;
}

void csupport_uring_destroy(struct csupport_uring *ring) {
  if (ring == NULL) return;
  tear_down(&ring->ring);
  free(ring);
}

// ---- operations -----------------------------------------------------------------------------------------------------

/// A free entry of the submission queue. If the queue is full, submits it first.
static int next_entry(struct io_uring *ring, struct io_uring_sqe **entry) {
  *entry = io_uring_get_sqe(ring);
  if (*entry != NULL) return 0;
  int result = io_uring_submit(ring);
  if (result < 0) return result;
  *entry = io_uring_get_sqe(ring);
  return *entry == NULL ? -EBUSY : 0;
}

static int queue_futex_wait(struct io_uring *ring, uint64_t user_data, const void *word, uint32_t expected) {
  struct io_uring_sqe *entry;
  int result = next_entry(ring, &entry);
  if (result < 0) return result;
  // fd: the futex flags; addr: the word; off: the expected value; addr3: which wakers count (all). Everything else
  // has to be zero, and io_uring_prep_rw makes it so.
  io_uring_prep_rw(OP_FUTEX_WAIT, entry, FUTEX_SIZE_U32, word, 0, expected);
  entry->addr3 = 0xffffffff;
  io_uring_sqe_set_data64(entry, user_data);
  return 0;
}

static int queue_poll(struct io_uring *ring, uint64_t user_data, int fd, uint32_t events) {
  struct io_uring_sqe *entry;
  int result = next_entry(ring, &entry);
  if (result < 0) return result;
  io_uring_prep_poll_add(entry, fd, events & ~(uint32_t)CSUPPORT_EVENT_EDGE);
  io_uring_sqe_set_data64(entry, user_data);
  return 0;
}

int csupport_uring_futex_wait(struct csupport_uring *ring, uint64_t user_data, const void *word, uint32_t expected) {
  return queue_futex_wait(&ring->ring, user_data, word, expected);
}

int csupport_uring_poll(struct csupport_uring *ring, uint64_t user_data, int fd, uint32_t events) {
  return queue_poll(&ring->ring, user_data, fd, events);
}

int csupport_uring_cancel(struct csupport_uring *ring, uint64_t user_data, uint64_t target) {
  struct io_uring_sqe *entry;
  int result = next_entry(&ring->ring, &entry);
  if (result < 0) return result;
  io_uring_prep_cancel64(entry, target, 0);
  io_uring_sqe_set_data64(entry, user_data);
  return 0;
}

// ---- submitting, waiting, completions -------------------------------------------------------------------------------

/// Enters the kernel once at most: not at all if nothing is queued and there are completions, or nothing to fetch.
/// (liburing enters again only if a signal interrupts a wait without limit that has just submitted something.)
static int submit_and_wait(struct io_uring *ring, bool wait, int64_t timeout_ns) {
  if (io_uring_cq_ready(ring) == 0 && wait) {
    struct __kernel_timespec limit = {.tv_sec = timeout_ns / 1000000000, .tv_nsec = timeout_ns % 1000000000};
    struct io_uring_cqe *first;
    int result = io_uring_submit_and_wait_timeout(ring, &first, 1, timeout_ns < 0 ? NULL : &limit, NULL);
    return result == -ETIME ? 0 : result;
  }
  if (io_uring_sq_ready(ring) > 0) return io_uring_submit_and_get_events(ring);
  if (io_uring_cq_ready(ring) > 0) return 0;
  return has_more_completions(ring) ? io_uring_get_events(ring) : 0;
}

static int enter(struct io_uring *ring, bool wait, int64_t timeout_ns, struct csupport_completion *completions,
                 int capacity) {
  int result = submit_and_wait(ring, wait, timeout_ns);
  unsigned head;
  unsigned count = 0;
  struct io_uring_cqe *completion;
  io_uring_for_each_cqe(ring, head, completion) {
    if (capacity < 0 || count >= (unsigned)capacity) break;
    completions[count] = (struct csupport_completion){.user_data = completion->user_data, .result = completion->res};
    count += 1;
  }
  io_uring_cq_advance(ring, count);
  // Completions matter more than an error, which will come again if it lasts.
  return count == 0 && result < 0 ? result : (int)count;
}

int csupport_uring_enter(struct csupport_uring *ring, bool wait, int64_t timeout_ns,
                         struct csupport_completion *completions, int capacity) {
  return enter(&ring->ring, wait, timeout_ns, completions, capacity);
}

// ---- probing --------------------------------------------------------------------------------------------------------

/// Submits what is queued, and returns whether the next completion is exactly this one.
static bool completes_with(struct io_uring *ring, uint64_t user_data, int32_t expected) {
  const int64_t patience_ns = 1000000000;
  struct csupport_completion completion;
  return enter(ring, true, patience_ns, &completion, 1) == 1 && completion.user_data == user_data &&
         completion.result == expected;
}

static bool futex_wait_works(struct io_uring *ring) {
  uint32_t word = 1;
  if (queue_futex_wait(ring, 1, &word, 0) < 0 || !completes_with(ring, 1, -EAGAIN)) return false;
  if (queue_futex_wait(ring, 2, &word, 1) < 0) return false;
  struct csupport_completion early;
  if (enter(ring, false, 0, &early, 1) != 0) return false;
  return csupport_futex_wake_all(&word) == 1 && completes_with(ring, 2, 0);
}

/// 1, 0, or `-errno` if it could not be tried.
static int poll_works(struct io_uring *ring) {
  int fd = new_descriptor(eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK));
  if (fd < 0) return fd;
  bool works = queue_poll(ring, 3, fd, CSUPPORT_EVENT_IN) == 0 && completes_with(ring, 3, CSUPPORT_EVENT_IN);
  close_descriptor(fd);
  return works;
}

int csupport_uring_probe(void) {
  struct io_uring ring;
  int result = setup(&ring, 4, 8);
  if (result < 0) return result;
  int bits = CSUPPORT_URING_SETUP;
  // Poll first: what a futex wait that does not work leaves behind cannot be mistaken for its completion.
  const int polls = poll_works(&ring);
  if (polls > 0) bits |= CSUPPORT_URING_POLL;
  if (futex_wait_works(&ring)) bits |= CSUPPORT_URING_FUTEX_WAIT;
  tear_down(&ring);
  return polls < 0 ? polls : bits;
}
