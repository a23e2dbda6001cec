// Debian 12 ships liburing 2.3; what its headers lack is declared in CSupport/uring.c.
#include <liburing.h>
