// Tells the thread sanitizer of the contended path of `Synchronization.Mutex`, which it does not see: that is in a
// library that is not instrumented, and the kernel hands the lock over (a priority-inheriting futex). The uncontended
// path is inlined, and instrumented with the caller. Linked into the sanitized build, before Swift's library.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>

void __tsan_acquire(void *address);
void __tsan_release(void *address);

#define LOCK "$s15Synchronization12_MutexHandleV9_lockSlowyys6UInt32VF"
#define UNLOCK "$s15Synchronization12_MutexHandleV11_unlockSlowyyF"

typedef __attribute__((swiftcall)) void lock_function(uint32_t thread, __attribute__((swift_context)) void *mutex);
typedef __attribute__((swiftcall)) void unlock_function(__attribute__((swift_context)) void *mutex);

lock_function lock_slowly __asm__(LOCK);
unlock_function unlock_slowly __asm__(UNLOCK);

static lock_function *swift_lock;
static unlock_function *swift_unlock;

__attribute__((constructor)) static void find_swift(void) {
  swift_lock = (lock_function *)dlsym(RTLD_NEXT, LOCK);
  swift_unlock = (unlock_function *)dlsym(RTLD_NEXT, UNLOCK);
}

__attribute__((swiftcall)) void lock_slowly(uint32_t thread, __attribute__((swift_context)) void *mutex) {
  swift_lock(thread, mutex);
  __tsan_acquire(mutex);
}

__attribute__((swiftcall)) void unlock_slowly(__attribute__((swift_context)) void *mutex) {
  __tsan_release(mutex);
  swift_unlock(mutex);
}
