#ifndef NEW_DESCRIPTOR_H
#define NEW_DESCRIPTOR_H

// What every function here does with a descriptor that the kernel has just given to this process.

/// `result` is that of the call that made a descriptor, close-on-exec: the descriptor, or less than 0 with errno set.
/// Returns the descriptor, or -errno.
///
/// A program that has closed its standard descriptors gets their numbers for whatever it opens next. What it then
/// prints would land in a channel's memory or socket, so the descriptor moves to a number above them.
int new_descriptor(int result);

/// Closes what new_descriptor returned; as close().
int close_descriptor(int fd);

/// Before somebody else closes what new_descriptor returned.
void forget_descriptor(int fd);

/// Closes `fd` and returns the error that made it useless.
int fail_closing(int fd, int error);

#endif
