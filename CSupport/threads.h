#ifndef THREADS_H
#define THREADS_H

#include <stddef.h>

/// Room for the processors of any machine there is.
enum { PROCESSOR_SET_BITS = 8192 };
struct processor_set {
  unsigned long words[PROCESSOR_SET_BITS / (8 * sizeof(unsigned long))];
};

/// Where this thread could run before it was placed, which is where what it starts is to run; NULL: it was not placed. Valid as long
/// as the thread.
const struct processor_set *unplaced_processors(void);

#endif
