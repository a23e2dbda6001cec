#define _GNU_SOURCE
#include "CSupport.h"

#include <string.h>

const char *csupport_error_name(int error) {
  const char *text = strerrordesc_np(error);
  return text != NULL ? text : "unknown error";
}
