// What becomes of the library in a process that is forked off without an exec: nothing that it had is the child's.

#define _GNU_SOURCE
#include "CSupport.h"
#include "mappings.h"
#include "new_descriptor.h"

#include <errno.h>
#include <pthread.h>

uint32_t csupport_process_mark_word = 0;

static void before(void) { hold_mappings(); }

static void in_parent(void) { release_mappings(); }

/// On the child's only thread. Calls only what is safe after fork().
static void in_child(void) {
  const int saved_errno = errno;
  // From here on, what existed before is somebody else's.
  csupport_process_mark_word += CSUPPORT_PROCESS_MARK_STEP;
  give_up_mappings();
  begin_mappings_anew();
  give_up_closing();
  give_up_descriptors();
  errno = saved_errno;
}

// First of all constructors, so that what the program does in its own handlers, it does with a library that is ready:
// handlers in the child run in the order of their registration.
__attribute__((constructor(101))) static void register_handlers(void) {
  pthread_atfork(before, in_parent, in_child);
}
