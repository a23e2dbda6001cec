#ifndef NEW_DESCRIPTOR_H
#define NEW_DESCRIPTOR_H

#include <stdbool.h>
#include <stdint.h>

/// Of a function that also runs in a process which is being born, in its parent's memory: no sanitizer may note down
/// there what it does. It never returns, either, from the last of its frames.
#if defined(__has_attribute) && __has_attribute(disable_sanitizer_instrumentation)
#define UNINSTRUMENTED __attribute__((disable_sanitizer_instrumentation, no_sanitize("address", "thread", "undefined")))
#else
#define UNINSTRUMENTED __attribute__((no_sanitize("address", "thread", "undefined")))
#endif

// What every function here does with a descriptor that the kernel has just given to this process.

/// `result` is that of the call that made a descriptor, close-on-exec: the descriptor, or less than 0 with errno set.
/// Returns the descriptor, or -errno.
///
/// A program that has closed its standard descriptors gets their numbers for whatever it opens next. What it then
/// prints would land in a channel's memory or socket, so the descriptor moves to a number above them.
int new_descriptor(int result);

/// The same of a descriptor that a peer has sent. Does not linger.
int received_descriptor(int fd);

/// Closes what new_descriptor returned; as close().
int close_descriptor(int fd);

/// Before somebody else closes what new_descriptor returned.
void forget_descriptor(int fd);

/// The most that a process may have unless somebody has raised fs.nr_open. Above it, descriptors are not kept track of.
enum { TRACKED_DESCRIPTORS = 1 << 20 };

/// Tries again to close what could not be, because no thread could be had for it.
void close_what_is_stranded(void);

/// Until let_closers_go(), nothing is closed that a peer may have sent: a process that is about to be copied would have the
/// last copy. Returns what names that process in the other calls.
uint32_t hold_closers(void);
/// The new process has no copies any more. It says so itself; whoever has started it says so again, in end_birth(), since
/// a process can be killed before it says anything.
void let_closers_go(uint32_t birth);
void end_birth(uint32_t birth);

/// In a process that was cloned to execute a program: closes its copies of what is the library's, but for what the
/// program is to have, while the closers are held. None of them is the last.
void close_copies(bool (*is_wanted)(const void *context, int fd), const void *context);

/// In a forked child, which has none of the threads that close: closes what was left to them.
void give_up_closing(void);
/// In a forked child: closes what the library had open.
void give_up_descriptors(void);

/// Closes `fd` and returns the error that made it useless.
int fail_closing(int fd, int error);

#endif
