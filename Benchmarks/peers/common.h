// What every C and C++ program here shares: options, pinning, a clock, a histogram, JSON lines, and children that
// cannot outlive their parent. Valid C11 and C++17, with _GNU_SOURCE. Nothing in this file knows what is being measured.
#ifndef PEERS_COMMON_H
#define PEERS_COMMON_H

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef PEERS_BUILD
#define PEERS_BUILD "unknown"  // compiler and flags; the Makefile says
#endif

// MARK: - Failing

/// Says why on standard error and ends this process. A program that cannot be right must not print a figure.
__attribute__((noreturn, format(printf, 1, 2))) static inline void peers_die(const char *format, ...) {
  int saved = errno;
  va_list arguments;
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  va_end(arguments);
  fprintf(stderr, saved != 0 ? " (last errno: %s)\n" : "\n", strerror(saved));
  _exit(1);
}

/// For calls that return -1 and set errno: the result, or the end of this process.
static inline long peers_check(long result, const char *call) {
  if (result < 0) peers_die("%s failed", call);
  return result;
}

// MARK: - Options

struct peers_options {
  int cpus[2];         // producer (or pinger), consumer (or answerer)
  const char *metric;  // NULL: all
  const char *who, *variant;  // NULL: all; for programs that measure several mechanisms
  long size;           // -1: all
  double seconds;      // measured time per figure, after the warm-up
  bool awake;          // keep the CPUs from halting: one SCHED_IDLE spinner on each
};

static inline struct peers_options peers_parse(int argc, char **argv) {
  struct peers_options options = {{0, 1}, NULL, NULL, NULL, -1, 0.4, false};
  for (int i = 1; i < argc; i++) {
    const char *value = i + 1 < argc ? argv[i + 1] : NULL;
    if (strcmp(argv[i], "--awake") == 0) {
      options.awake = true;
      continue;
    }
    bool ok = value != NULL;
    if (ok && strcmp(argv[i], "--cpus") == 0) {
      ok = sscanf(value, "%d,%d", &options.cpus[0], &options.cpus[1]) == 2;
    } else if (ok && strcmp(argv[i], "--metric") == 0) {
      options.metric = value;
    } else if (ok && strcmp(argv[i], "--who") == 0) {
      options.who = value;
    } else if (ok && strcmp(argv[i], "--variant") == 0) {
      options.variant = value;
    } else if (ok && strcmp(argv[i], "--size") == 0) {
      options.size = atol(value);
    } else if (ok && strcmp(argv[i], "--seconds") == 0) {
      options.seconds = atof(value);
      ok = options.seconds > 0 && options.seconds <= 60;
    } else {
      ok = false;
    }
    if (!ok) {
      fprintf(stderr, "usage: %s [--cpus 0,1] [--metric NAME] [--who NAME] [--variant NAME] [--size BYTES] [--seconds S] [--awake]\n", argv[0]);
      exit(2);
    }
    i++;
  }
  return options;
}

/// Whether the options ask for this figure. `size` is -1 for a figure that has none.
static inline bool peers_wanted(const struct peers_options *options, const char *metric, long size) {
  if (options->metric != NULL && strcmp(options->metric, metric) != 0) return false;
  return options->size < 0 || options->size == size;
}

// MARK: - Pinning

/// Pins the calling thread and proves it: the kernel's own mask is read back, and the thread runs there now.
static inline void peers_pin(int cpu) {
  cpu_set_t wanted, actual;
  CPU_ZERO(&wanted);
  CPU_SET(cpu, &wanted);
  if (sched_setaffinity(0, sizeof wanted, &wanted) != 0) peers_die("cannot pin to CPU %d", cpu);
  if (sched_getaffinity(0, sizeof actual, &actual) != 0 || !CPU_EQUAL(&wanted, &actual)) {
    peers_die("pinned to CPU %d, but the mask read back differs", cpu);
  }
  if (sched_getcpu() != cpu) peers_die("pinned to CPU %d, but running on %d", cpu, sched_getcpu());
}

// MARK: - Clock

static inline uint64_t peers_now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

__attribute__((weak)) double peers_ns_per_tick = 1;  // weak: one for all files of a program

/// A cheap time stamp, in ticks of `peers_ns_per_tick`. About 10 ns where clock_gettime takes 25.
static inline uint64_t peers_ticks(void) {
#if defined(__x86_64__)
  return __builtin_ia32_rdtsc();
#else
  return peers_now_ns();
#endif
}

/// Once per program, before it starts others (they inherit the answer).
static inline void peers_calibrate(void) {
#if defined(__x86_64__)
  struct timespec pause = {0, 30000000};
  uint64_t ns = peers_now_ns(), ticks = peers_ticks();
  nanosleep(&pause, NULL);
  uint64_t ns_after = peers_now_ns(), ticks_after = peers_ticks();
  peers_ns_per_tick = (double)(ns_after - ns) / (double)(ticks_after - ticks);
#endif
}

static inline uint64_t peers_ticks_in(double seconds) { return (uint64_t)(seconds * 1e9 / peers_ns_per_tick); }

static inline void peers_relax(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

/// Microseconds since start-up in which some thread on this machine had to wait for a CPU. 0 if the kernel does not say.
static inline uint64_t peers_waited_us(void) {
  unsigned long long total = 0;
  FILE *file = fopen("/proc/pressure/cpu", "r");
  if (file == NULL) return 0;
  if (fscanf(file, "some avg10=%*f avg60=%*f avg300=%*f total=%llu", &total) != 1) total = 0;
  fclose(file);
  return total;
}

// MARK: - What a side spends

struct peers_usage {
  uint64_t cpu_ns;  // in user mode and in the kernel
  uint64_t sleeps;  // how often a thread gave its CPU away to wait
};

/// Since this process began, or this thread if `of_thread`.
static inline struct peers_usage peers_usage_now(bool of_thread) {
  struct rusage usage;
  getrusage(of_thread ? RUSAGE_THREAD : RUSAGE_SELF, &usage);
  struct peers_usage now;
  now.cpu_ns = (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000000u +
               (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000u;
  now.sleeps = (uint64_t)usage.ru_nvcsw;
  return now;
}

static inline struct peers_usage peers_usage_since(struct peers_usage begin, bool of_thread) {
  struct peers_usage now = peers_usage_now(of_thread);
  now.cpu_ns -= begin.cpu_ns;
  now.sleeps -= begin.sleeps;
  return now;
}

// MARK: - How far apart the CPUs are

// A cache line bounced between two threads, just before and just after each figure: hypervisors move virtual CPUs, and a
// program runs for long enough that its figures need not have been measured under the same conditions.

struct peers_bounced {
  uint32_t there __attribute__((aligned(128)));
  uint32_t back __attribute__((aligned(128)));
  uint32_t ready __attribute__((aligned(128)));
  int cpu;
};

#define PEERS_BOUNCES 3000

static inline void *peers_bounce_back(void *argument) {
  struct peers_bounced *bounced = (struct peers_bounced *)argument;
  peers_pin(bounced->cpu);
  __atomic_store_n(&bounced->ready, 1, __ATOMIC_RELEASE);
  for (uint32_t next = 1; next <= PEERS_BOUNCES; next++) {
    while (__atomic_load_n(&bounced->there, __ATOMIC_ACQUIRE) != next) peers_relax();
    __atomic_store_n(&bounced->back, next, __ATOMIC_RELEASE);
  }
  return NULL;
}

/// Nanoseconds per round trip, the median of ten parts; 0 for one CPU. The calling thread stays where it is allowed to run.
static inline double peers_bounce(int first, int second) {
  if (first == second) return 0;
  struct peers_bounced bounced = {};
  bounced.cpu = second;
  cpu_set_t before;
  sched_getaffinity(0, sizeof before, &before);
  pthread_t thread;
  if (pthread_create(&thread, NULL, peers_bounce_back, &bounced) != 0) peers_die("no thread to bounce a cache line");
  peers_pin(first);
  while (__atomic_load_n(&bounced.ready, __ATOMIC_ACQUIRE) == 0) sched_yield();
  double parts[10];
  uint32_t next = 1;
  for (int part = 0; part < 10; part++) {
    uint64_t began = peers_now_ns();
    for (int i = 0; i < PEERS_BOUNCES / 10; i++, next++) {
      __atomic_store_n(&bounced.there, next, __ATOMIC_RELEASE);
      while (__atomic_load_n(&bounced.back, __ATOMIC_ACQUIRE) != next) peers_relax();
    }
    double took = (double)(peers_now_ns() - began) / (PEERS_BOUNCES / 10);
    int place = part;
    for (; place > 0 && parts[place - 1] > took; place--) parts[place] = parts[place - 1];
    parts[place] = took;
  }
  pthread_join(thread, NULL);
  sched_setaffinity(0, sizeof before, &before);
  return (parts[4] + parts[5]) / 2;
}

// MARK: - Histogram

// Log-linear, as HdrHistogram: 128 buckets per doubling, so a percentile is within 0.8 % of the sample it stands for.
#define PEERS_SUB_BUCKETS 128
#define PEERS_BUCKETS (PEERS_SUB_BUCKETS * 36)

struct peers_histogram {
  uint64_t count, sum, minimum, maximum;  // in ticks
  uint32_t buckets[PEERS_BUCKETS];
};

static inline void peers_record(struct peers_histogram *histogram, uint64_t ticks) {
  uint64_t index = ticks;
  if (ticks >= PEERS_SUB_BUCKETS) {
    int shift = 63 - __builtin_clzll(ticks) - 7;
    index = (uint64_t)(shift + 1) * PEERS_SUB_BUCKETS + ((ticks >> shift) - PEERS_SUB_BUCKETS);
    if (index >= PEERS_BUCKETS) index = PEERS_BUCKETS - 1;
  }
  if (histogram->count == 0 || ticks < histogram->minimum) histogram->minimum = ticks;
  if (ticks > histogram->maximum) histogram->maximum = ticks;
  histogram->count++;
  histogram->sum += ticks;
  histogram->buckets[index]++;
}

// Where a bucket begins, in ticks; `index` may be one past the last.
static inline double peers_bucket_begin(uint64_t index) {
  if (index < PEERS_SUB_BUCKETS) return (double)index;
  double width = (double)(1ull << (index / PEERS_SUB_BUCKETS - 1));
  return (double)(index % PEERS_SUB_BUCKETS + PEERS_SUB_BUCKETS) * width;
}

static inline double peers_bucket_middle(uint64_t index) {
  return (peers_bucket_begin(index) + peers_bucket_begin(index + 1) - 1) / 2;
}

// Time stamps come in steps, of 10 ns on some processors, so that half of all samples of a short round trip may be equal.
// Each is taken as spread evenly over the step around it, which is no longer than this.
#define PEERS_LONGEST_STEP_NS 16.0

static inline double peers_percentile_ns(const struct peers_histogram *histogram, double percent) {
  double rank = (double)histogram->count * percent / 100.0, seen = 0;
  double longest = PEERS_LONGEST_STEP_NS / peers_ns_per_tick, previous = -1e18;
  for (uint64_t i = 0; i < PEERS_BUCKETS; i++) {
    double count = histogram->buckets[i], middle = peers_bucket_middle(i);
    if (count == 0) continue;
    if (seen + count < rank) {
      seen += count;
      previous = middle;
      continue;
    }
    uint64_t next = i + 1;
    while (next < PEERS_BUCKETS && histogram->buckets[next] == 0 && peers_bucket_middle(next) - middle < longest) next++;
    double below = middle - previous < longest ? middle - previous : longest;
    double above = peers_bucket_middle(next) - middle < longest ? peers_bucket_middle(next) - middle : longest;
    return (middle - below / 2 + (below + above) / 2 * (rank - seen) / count) * peers_ns_per_tick;
  }
  return (double)histogram->maximum * peers_ns_per_tick;
}

// MARK: - Messages that are written and read where they lie

// | sequence | sequence + 1 | … |    as many words as fit; whoever reads all of them knows whether they are the right ones.

static inline void peers_fill_words(void *message, size_t size, uint64_t sequence) {
  uint64_t *words = (uint64_t *)message;
  for (size_t i = 0; i < size / 8; i++) words[i] = sequence + i;
}

static inline uint64_t peers_sum_words(const void *message, size_t size) {
  const uint64_t *words = (const uint64_t *)message;
  uint64_t sum = 0;
  for (size_t i = 0; i < size / 8; i++) sum += words[i];
  return sum;
}

static inline uint64_t peers_expected_sum(size_t size, uint64_t sequence) {
  uint64_t count = size / 8;
  return count * sequence + count * (count - 1) / 2;
}

// MARK: - Output

struct peers_figure {
  const char *who, *tier, *metric;
  const char *variant;  // "" if there is only one way
  long size;            // bytes per message; -1 prints none
  double value;
  const char *unit, *note;
  const int *cpus;
  bool awake;
  const struct peers_histogram *latency;  // NULL for a rate; otherwise `value` is ignored and the median printed
  long preempted;   // how often the two sides lost their CPU to another thread, start included
  double pressure;  // share of the time in which some thread on this machine had to wait for a CPU
  double probes[2];  // a bounced cache line before and after; 0 for one CPU
  uint64_t messages;  // that `spent` went into; 0: not counted
  struct peers_usage spent[2];
};

static inline void peers_print_string(const char *text) {
  putchar('"');
  for (; *text; text++) {
    if (*text == '"' || *text == '\\') putchar('\\');
    putchar(*text == '\n' ? ' ' : *text);
  }
  putchar('"');
}

static inline void peers_print_head(const struct peers_figure *figure) {
  printf("{\"who\":\"%s\",\"tier\":\"%s\",\"metric\":\"%s\"", figure->who, figure->tier, figure->metric);
  if (figure->variant != NULL && figure->variant[0] != 0) printf(",\"variant\":\"%s\"", figure->variant);
  if (figure->size >= 0) printf(",\"size\":%ld", figure->size);
}

static inline void peers_print(const struct peers_figure *figure) {
  peers_print_head(figure);
  const struct peers_histogram *latency = figure->latency;
  if (latency != NULL && latency->count > 0) {
    printf(",\"value\":%.1f,\"unit\":\"%s\"", peers_percentile_ns(latency, 50), figure->unit);
    printf(",\"p50\":%.1f,\"p99\":%.1f,\"p99.9\":%.1f,\"p99.99\":%.1f", peers_percentile_ns(latency, 50),
           peers_percentile_ns(latency, 99), peers_percentile_ns(latency, 99.9), peers_percentile_ns(latency, 99.99));
    printf(",\"mean\":%.1f,\"min\":%.1f,\"max\":%.1f,\"samples\":%llu",
           (double)latency->sum / (double)latency->count * peers_ns_per_tick,
           (double)latency->minimum * peers_ns_per_tick, (double)latency->maximum * peers_ns_per_tick,
           (unsigned long long)latency->count);
    // All of it, so that whoever reads several runs can pool them: nanoseconds and how many took so long.
    printf(",\"histogram\":[");
    bool is_first = true;
    for (uint64_t i = 0; i < PEERS_BUCKETS; i++) {
      if (latency->buckets[i] == 0) continue;
      printf("%s[%.0f,%u]", is_first ? "" : ",", peers_bucket_middle(i) * peers_ns_per_tick, latency->buckets[i]);
      is_first = false;
    }
    printf("]");
  } else {
    printf(",\"value\":%.6g,\"unit\":\"%s\"", figure->value, figure->unit);
  }
  if (figure->cpus != NULL) printf(",\"cpus\":\"%d,%d\"", figure->cpus[0], figure->cpus[1]);
  if (figure->awake) printf(",\"awake\":true");
  printf(",\"preempted\":%ld,\"pressure\":%.2f", figure->preempted, figure->pressure);
  if (figure->probes[0] > 0) printf(",\"cache_line_ns\":[%.1f,%.1f]", figure->probes[0], figure->probes[1]);
  if (figure->messages > 0) {
    double messages = (double)figure->messages;
    printf(",\"cpu_ns_per_message\":%.4g", (double)(figure->spent[0].cpu_ns + figure->spent[1].cpu_ns) / messages);
    printf(",\"sleeps_per_message\":%.3g", (double)(figure->spent[0].sleeps + figure->spent[1].sleeps) / messages);
  }
  printf(",\"build\":\"%s\",\"note\":", PEERS_BUILD);
  peers_print_string(figure->note);
  printf("}\n");
  fflush(stdout);
}

/// Instead of a figure. The harness sees that the run was tried and why there is no number.
static inline void peers_print_failure(const struct peers_figure *figure, const char *why) {
  peers_print_head(figure);
  printf(",\"value\":null,\"unit\":\"%s\",\"error\":", figure->unit);
  peers_print_string(why);
  printf("}\n");
  fflush(stdout);
}

// MARK: - Children

/// Forks a child that the kernel kills when this process ends, whatever ends it. The child returns 0 here.
static inline pid_t peers_fork(void) {
  pid_t parent = getpid();
  fflush(stdout);
  pid_t child = fork();
  if (child < 0) peers_die("fork failed");
  if (child > 0) return child;
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1);  // The parent ended before the line above took effect.
  return 0;
}

static inline void peers_kill(pid_t child) {
  if (child <= 0) return;
  kill(child, SIGKILL);
  while (waitpid(child, NULL, 0) < 0 && errno == EINTR) continue;
}

/// A process of the lowest class on one CPU, which any other thread preempts at once: the CPU never halts, so a
/// wake-up costs what the kernel does and not what the hypervisor does.
static inline pid_t peers_start_spinner(int cpu) {
  pid_t child = peers_fork();
  if (child != 0) return child;
  peers_pin(cpu);
  struct sched_param parameter;
  memset(&parameter, 0, sizeof parameter);
  if (sched_setscheduler(0, SCHED_IDLE, &parameter) != 0) peers_die("SCHED_IDLE refused");
  for (;;) peers_relax();
}

/// Waits for `count` children and forgets each as it ends well. Returns NULL, or why it gave up.
/// Adds to `preempted` how often they lost their CPU against their will, unless it is NULL.
/// SIGCHLD, SIGINT and SIGTERM must be blocked (see peers_block_signals), so that no wake-up can be missed.
static inline const char *peers_await(pid_t *children, int count, double seconds, long *preempted) {
  uint64_t deadline = peers_now_ns() + (uint64_t)(seconds * 1e9);
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGCHLD);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  for (;;) {
    int left = 0;
    for (int i = 0; i < count; i++) {
      if (children[i] <= 0) continue;
      int status = 0;
      struct rusage usage;
      pid_t ended = wait4(children[i], &status, WNOHANG, &usage);
      if (ended == 0) {
        left++;
      } else {
        children[i] = 0;
        if (ended > 0 && preempted != NULL) *preempted += usage.ru_nivcsw;
        if (ended < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0) return "a side ended with an error";
      }
    }
    if (left == 0) return NULL;
    uint64_t now = peers_now_ns();
    if (now >= deadline) return "not done before the deadline";
    struct timespec rest = {(time_t)((deadline - now) / 1000000000u), (long)((deadline - now) % 1000000000u)};
    int signal = sigtimedwait(&signals, NULL, &rest);
    if (signal == SIGINT || signal == SIGTERM) return "interrupted";
  }
}

static inline void peers_block_signals(void) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGCHLD);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  sigprocmask(SIG_BLOCK, &signals, NULL);
}

#endif
