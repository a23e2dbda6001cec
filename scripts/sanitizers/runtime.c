// Tells the thread sanitizer what happens in Swift's runtime, which is not instrumented. Linked into the sanitized build,
// before Swift's libraries.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>

void __tsan_acquire(void *address);
void __tsan_release(void *address);

// ---- a contended `Synchronization.Mutex` --------------------------------------------------------------------------------

// The kernel hands it over (a priority-inheriting futex). The uncontended path is inlined, and instrumented with the caller.

#define LOCK "$s15Synchronization12_MutexHandleV9_lockSlowyys6UInt32VF"
#define UNLOCK "$s15Synchronization12_MutexHandleV11_unlockSlowyyF"

typedef __attribute__((swiftcall)) void lock_function(uint32_t thread, __attribute__((swift_context)) void *mutex);
typedef __attribute__((swiftcall)) void unlock_function(__attribute__((swift_context)) void *mutex);

lock_function lock_slowly __asm__(LOCK);
unlock_function unlock_slowly __asm__(UNLOCK);

static lock_function *swift_lock;
static unlock_function *swift_unlock;

__attribute__((swiftcall)) void lock_slowly(uint32_t thread, __attribute__((swift_context)) void *mutex) {
  swift_lock(thread, mutex);
  __tsan_acquire(mutex);
}

__attribute__((swiftcall)) void unlock_slowly(__attribute__((swift_context)) void *mutex) {
  __tsan_release(mutex);
  swift_unlock(mutex);
}

// ---- a continuation that is resumed before its task has gone to sleep ---------------------------------------------------

// The runtime tells of a task that slept and is run again. But one whose value is there by the time it would sleep goes on
// at once, and only two atomic accesses within the runtime say that what was done before the resumption is visible.

typedef __attribute__((swiftasynccall)) void await_function(void *context);
typedef __attribute__((swiftcall)) void resume_function(void *task);
typedef __attribute__((swiftcall)) void resume_with_error_function(void *task, void *error);

typedef __attribute__((swiftcall)) void *current_function(void);

static current_function *swift_current;
static await_function *swift_await;
static resume_function *swift_resume, *swift_resume_throwing;
static resume_with_error_function *swift_resume_with_error;

__attribute__((swiftasynccall)) void swift_continuation_await(void *context) {
  __tsan_acquire(swift_current());
  return swift_await(context);
}

__attribute__((swiftcall)) void swift_continuation_resume(void *task) {
  __tsan_release(task);
  swift_resume(task);
}

__attribute__((swiftcall)) void swift_continuation_throwingResume(void *task) {
  __tsan_release(task);
  swift_resume_throwing(task);
}

__attribute__((swiftcall)) void swift_continuation_throwingResumeWithError(void *task, void *error) {
  __tsan_release(task);
  swift_resume_with_error(task, error);
}

// -------------------------------------------------------------------------------------------------------------------------

__attribute__((constructor)) static void find_swift(void) {
  swift_lock = (lock_function *)dlsym(RTLD_NEXT, LOCK);
  swift_unlock = (unlock_function *)dlsym(RTLD_NEXT, UNLOCK);
  swift_current = (current_function *)dlsym(RTLD_NEXT, "swift_task_getCurrent");
  swift_await = (await_function *)dlsym(RTLD_NEXT, "swift_continuation_await");
  swift_resume = (resume_function *)dlsym(RTLD_NEXT, "swift_continuation_resume");
  swift_resume_throwing = (resume_function *)dlsym(RTLD_NEXT, "swift_continuation_throwingResume");
  swift_resume_with_error =
    (resume_with_error_function *)dlsym(RTLD_NEXT, "swift_continuation_throwingResumeWithError");
}
