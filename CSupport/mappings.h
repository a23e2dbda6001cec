#ifndef MAPPINGS_H
#define MAPPINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The library's shared mappings, from mmap() to munmap(), for a fork.

/// See csupport_memory_map(). `has_header`: it begins with a channel's first page.
int map_shared(int fd, uint64_t offset, size_t bytes, bool has_header, void **address);

/// Before a fork: afterwards nobody is about to map or unmap anything.
void hold_mappings(void);
/// After it, in the parent.
void release_mappings(void);
/// After it, in the child.
void begin_mappings_anew(void);
/// In a forked child, while the mappings are held: puts private memory, all zero, in the place of each.
void give_up_mappings(void);

#endif
