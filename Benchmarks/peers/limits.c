// Runs the limits: the table of cases, and the supervisor that forks the two sides of each.
#include "limits.h"

#include <sys/mman.h>

struct limits_case {
  const char *who, *metric;
  long size;
  size_t ring_bytes;
  limits_side *open, *first, *second;  // `open` runs before the fork; `second` may be NULL
  const char *note;
};

// In place: words written where they lie, and read where they lie.
#define WORDS(size, ring_bytes) \
  {"words", "inplace_bytes_per_s", size, ring_bytes, NULL, words_produce, words_consume, \
   "each word written into the ring and read there, nothing copied, no headers, both spin; index published per message"}

// Each sleeping round trip three times: across CPUs, on one, and across CPUs that are kept from halting.
#define ROUND_TRIPS(who, size, open, ask, answer, note)                    \
  {who, "rtt_sleep_ns", size, 0, open, ask, answer, note},                 \
  {who, "rtt_sleep_onecore_ns", size, 0, open, ask, answer, note},         \
  {who, "rtt_sleep_awake_ns", size, 0, open, ask, answer, note "; a SCHED_IDLE spinner on each CPU keeps it from halting"}

#define COPY_NOTE \
  "copy in and copy out, no headers, both spin; index published per message but at most every 4 KiB; a message above a quarter of the ring in pieces"
#define COPY(who, size, ring_bytes, produce, consume) \
  {who, "oneway_bytes_per_s", size, ring_bytes, NULL, produce, consume, COPY_NOTE}
#define COPIES(who, size, produce, consume)                                                             \
  COPY(who, size, 64 << 10, produce, consume), COPY(who, size, 256 << 10, produce, consume),            \
      COPY(who, size, 1 << 20, produce, consume), COPY(who, size, 4 << 20, produce, consume)
#define MEMCPY(size) COPIES("memcpy", size, copy_produce, copy_consume)
#define STRING_COPY(size) COPIES("rep_movsb", size, string_produce, string_consume)

#define PASSES(suffix, one, many, answer, what) \
  {"socketpair" suffix "_passed", "transfer_reply_per_s", -1, 0, open_sockets, one, answer, what "; one at a time, both sleep"}, \
  {"socketpair" suffix "_passed", "transfer_reply_onecore_per_s", -1, 0, open_sockets, one, answer, what "; one at a time, both sleep, on one CPU"}, \
  {"socketpair" suffix "_passed", "transfer_reply_awake_per_s", -1, 0, open_sockets, one, answer, what "; one at a time, both sleep, a SCHED_IDLE spinner on each CPU keeps it from halting"}, \
  {"socketpair" suffix "_passed", "transfer_pipelined_per_s", -1, 0, open_sockets, many, answer, what "; 64 in flight"}, \
  {"socketpair" suffix "_passed", "transfer_pipelined_onecore_per_s", -1, 0, open_sockets, many, answer, what "; 64 in flight, on one CPU"}

static const struct limits_case cases[] = {
    {"cache_line", "rtt_poll_ns", 4, 0, NULL, cache_line_ask, cache_line_answer,
     "each side writes a word on its own line and spins on the other's: two line transfers"},
    MEMCPY(8), MEMCPY(64), MEMCPY(1024), MEMCPY(8192), MEMCPY(65536), MEMCPY(1048576),
    STRING_COPY(1024), STRING_COPY(8192), STRING_COPY(65536), STRING_COPY(1048576),
    WORDS(1024, 256 << 10), WORDS(1024, 1 << 20), WORDS(8192, 256 << 10), WORDS(8192, 1 << 20),
    WORDS(65536, 256 << 10), WORDS(65536, 1 << 20), WORDS(1048576, 4 << 20),
    ROUND_TRIPS("futex", 4, NULL, futex_ask, futex_answer, "FUTEX_WAKE and FUTEX_WAIT on shared words, both sleep, nobody spins"),
    ROUND_TRIPS("eventfd", 8, open_eventfds, eventfd_ask, eventfd_answer, "one eventfd per direction, both sleep in read"),
    ROUND_TRIPS("io_uring_msg_ring", 8, open_rings, ring_message_ask, ring_message_answer, "one IORING_OP_MSG_RING per direction, submitted by the call that sleeps for the answer"),
    ROUND_TRIPS("io_uring_eventfd", 8, open_rings_and_eventfds, ring_eventfd_ask, ring_eventfd_answer, "one eventfd per direction, written and read by one call of io_uring that sleeps for the answer"),
    ROUND_TRIPS("unix_seqpacket", 8, open_sockets, message_ask, message_answer, "one Unix socket pair, SOCK_SEQPACKET, both sleep in read"),
    ROUND_TRIPS("unix_seqpacket", 1024, open_sockets, message_ask, message_answer, "one Unix socket pair, SOCK_SEQPACKET, both sleep in read"),
    ROUND_TRIPS("pipe", 8, open_pipes, message_ask, message_answer, "one pipe per direction, both sleep in read"),
    ROUND_TRIPS("pipe", 1024, open_pipes, message_ask, message_answer, "one pipe per direction, both sleep in read"),
    {"socketpair", "create_per_s", -1, 0, NULL, make_socketpair, NULL, "socketpair (SOCK_SEQPACKET) and two closes"},
    {"memfd", "create_per_s", -1, 0, NULL, make_memfd, NULL, "memfd_create, ftruncate to one page, three seals, close"},
    {"memfd_mapped", "create_per_s", -1, 0, NULL, make_memfd_mapped, NULL, "as memfd, and mapped, touched once, unmapped"},
    {"page_fault", "page_fault_ns", 4096, 0, NULL, fault_allocating, NULL, "first touch of a page of a fresh memfd: allocates and maps; includes reading the clock, about 10 ns"},
    {"page_fault_mapped", "page_fault_ns", 4096, 0, NULL, fault_mapping, NULL, "first touch through a second mapping: the page exists and is only mapped (the kernel may map its neighbours along)"},
    {"map_populate", "page_fault_ns", 4096, 0, NULL, map_populated, NULL, "mmap of 16 MiB with MAP_POPULATE, per page"},
    {"socket_end", "death_notice_ns", -1, 0, NULL, notice_socket, NULL, "from kill(SIGKILL) to the end of file of a socket pair, both asleep; of a process with one thread and little memory, which dies sooner than a large one"},
    {"pidfd", "death_notice_ns", -1, 0, NULL, notice_pidfd, NULL, "from kill(SIGKILL) to poll's word that a pidfd is readable, both asleep; of a process with one thread and little memory, which dies sooner than a large one"},
    PASSES("", pass_one, pass_many, pass_answer, "socketpair made, one end passed by SCM_RIGHTS, answered by one byte, both ends closed"),
    PASSES("_memfd", pass_memory_one, pass_memory_many, pass_memory_answer, "as socketpair_passed, and a sealed one-page memfd made, passed along, checked, mapped and touched on both sides"),
};

static void name_variant(const struct limits_case *measured, char variant[static 32]) {
  variant[0] = 0;
  if (measured->ring_bytes > 0) snprintf(variant, 32, "ring%zuk", measured->ring_bytes >> 10);
}

static bool is_wanted(const struct limits_case *measured, const struct peers_options *options) {
  char variant[32];
  name_variant(measured, variant);
  return peers_wanted(options, measured->metric, measured->size) &&
         (options->who == NULL || strcmp(options->who, measured->who) == 0) &&
         (options->variant == NULL || strcmp(options->variant, variant) == 0);
}

static bool run_case(const struct limits_case *measured, const struct peers_options *options, struct limits_run run) {
  bool one_core = strstr(measured->metric, "onecore") != NULL;
  bool awake = options->awake || strstr(measured->metric, "awake") != NULL;
  int cpus[2] = {options->cpus[0], one_core ? options->cpus[0] : options->cpus[1]};
  // Fresh for each case, as it is for each peer: where the pages lie is a matter of luck that no case should inherit.
  run.shared = mmap(NULL, sizeof *run.shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (run.shared == MAP_FAILED) peers_die("cannot map the shared memory");
  run.size = measured->size < 0 ? 0 : (size_t)measured->size;
  run.ring_bytes = measured->ring_bytes;
  run.cpus[0] = cpus[0];
  run.cpus[1] = cpus[1];
  double probes[2] = {peers_bounce(options->cpus[0], options->cpus[1]), 0};
  if (measured->open != NULL) measured->open(&run);

  pid_t spinners[2] = {0, 0};
  if (awake) {
    spinners[0] = peers_start_spinner(cpus[0]);
    if (cpus[1] != cpus[0]) spinners[1] = peers_start_spinner(cpus[1]);
  }
  pid_t children[2] = {0, 0};
  uint64_t waited = peers_waited_us(), began = peers_now_ns();
  for (int i = 0; i < 2; i++) {
    limits_side *side = i == 0 ? measured->first : measured->second;
    if (side == NULL) {
      atomic_fetch_add(&run.shared->sides_ready, 1);
      continue;
    }
    children[i] = peers_fork();
    if (children[i] != 0) continue;
    peers_pin(cpus[i]);
    struct peers_usage begin = peers_usage_now(false);
    side(&run);
    run.shared->spent[i] = peers_usage_since(begin, false);
    _exit(0);
  }
  long preempted = 0;
  const char *why = peers_await(children, 2, options->seconds * 3 + 5, &preempted);
  double pressure = (double)(peers_waited_us() - waited) * 1e3 / (double)(peers_now_ns() - began);
  for (int i = 0; i < 2; i++) {
    peers_kill(children[i]);
    peers_kill(spinners[i]);
  }
  if (measured->open != NULL) {  // A descriptor may stand for two ends; closing it twice is harmless here.
    for (int i = 0; i < 2; i++) {
      close(run.there[i]);
      close(run.back[i]);
    }
    if (run.rings != NULL) close_rings(&run);
  }
  probes[1] = peers_bounce(options->cpus[0], options->cpus[1]);

  char variant[32];
  name_variant(measured, variant);
  bool is_latency = strstr(measured->metric, "_ns") != NULL;
  const char *unit = is_latency ? "ns" : strstr(measured->metric, "bytes") != NULL ? "B/s" : "1/s";
  struct peers_figure figure = {
      measured->who,  "limit",        measured->metric, variant, measured->size, run.shared->value, unit,
      measured->note, measured->second != NULL ? cpus : (int[]){cpus[0], cpus[0]}, awake,
      is_latency ? &run.shared->latency : NULL, preempted, pressure, {probes[0], probes[1]}, run.shared->messages,
      {run.shared->spent[0], run.shared->spent[1]}};
  if (why == NULL && (is_latency ? run.shared->latency.count == 0 : !(run.shared->value > 0))) why = "no figure came back";
  if (why == NULL) {
    peers_print(&figure);
  } else {
    peers_print_failure(&figure, why);
    if (strcmp(why, "interrupted") == 0) exit(130);
  }
  munmap(run.shared, sizeof *run.shared);
  return why == NULL;
}

int main(int argc, char **argv) {
  struct peers_options options = peers_parse(argc, argv);
  peers_block_signals();
  peers_calibrate();
  struct limits_run run = {.seconds = options.seconds, .there = {-1, -1}, .back = {-1, -1}};
  bool all_well = true;
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    if (is_wanted(&cases[i], &options)) all_well &= run_case(&cases[i], &options, run);
  }
  return all_well ? 0 : 1;
}
