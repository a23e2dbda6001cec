#ifndef CBENCH_H
#define CBENCH_H

// What a measurement needs from the machine. No policy, no printing. Functions return a value >= 0, or -errno.

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/// A cheap time stamp, in ticks of cbench_ns_per_tick(): some 10 ns where clock_gettime takes 25.
static inline uint64_t cbench_ticks(void) {
#if defined(__x86_64__)
  return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
  uint64_t ticks;
  __asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
  return ticks;
#else
#error "no cheap time stamp known for this processor"
#endif
}

/// Between two looks at memory that another core writes.
static inline void cbench_relax(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

/// Measured against CLOCK_MONOTONIC at the first call, which takes 30 ms; the same for the life of the process.
double cbench_ns_per_tick(void);

/// Lets the calling thread, and those it starts from now on, run on this CPU only. Reads the mask back; -EIO if the kernel
/// says something else, or if the thread still runs elsewhere.
int cbench_pin(int cpu);
/// Lets the calling thread, and those it starts from now on, run on every CPU of the machine.
int cbench_unpin(void);
/// How many CPUs are online.
int cbench_processors(void);
/// Which CPU the calling thread runs on now.
int cbench_current_cpu(void);

/// Bounces a cache line between two threads pinned to these CPUs, for `round_trips` in ten parts; nanoseconds per
/// round trip, the median of the parts. -errno if the threads could not be made or pinned.
double cbench_bounce(int first_cpu, int second_cpu, uint32_t round_trips);

/// Starts a process of the lowest class on one CPU, which any other thread preempts at once: the CPU never halts, so that
/// a wake-up costs what the kernel does and not what the hypervisor does. It dies with this process. Its pid.
pid_t cbench_start_spinner(int cpu);
/// Ends a process started by the above.
void cbench_stop_spinner(pid_t spinner);

/// Processor time of a process since it began, all its threads included, in nanoseconds.
int64_t cbench_cpu_ns(pid_t process);

// Messages that are written and read where they lie: the same loops as in ../../../peers/common.h.

/// Writes the words of message `sequence`: itself, and one more each.
void cbench_fill_words(void *message, size_t bytes, uint64_t sequence);
/// Reads all of them.
uint64_t cbench_sum_words(const void *message, size_t bytes);
/// What that must come to.
uint64_t cbench_expected_sum(size_t bytes, uint64_t sequence);

/// How often this process has lost its CPU to another one against its will.
int64_t cbench_preempted(void);
/// What the calling thread has cost so far.
struct cbench_thread_costs {
  int64_t minor_faults;
  int64_t major_faults;
  int64_t involuntary_switches;
};
int cbench_thread_costs(struct cbench_thread_costs *costs);

/// Counts the system calls of a thread.
struct cbench_call_count;
/// From now on those of the calling thread are counted, and of all that it starts. Cannot be undone; each takes some microseconds
/// longer. NULL: the kernel lacks what it takes.
struct cbench_call_count *cbench_count_calls(void);
/// How many there were. No system call.
int64_t cbench_calls(const struct cbench_call_count *count);

/// Raises the limit on descriptors as far as it goes, up to `wanted`, and returns what it is now.
int64_t cbench_raise_descriptor_limit(uint64_t wanted);
/// Asks the kernel to end this process when its parent does.
int cbench_die_with_parent(void);

#endif
