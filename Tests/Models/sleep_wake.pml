/* Sleeping without a lost wake-up: the [sleep] protocol. See README.md for what is abstracted.
 *
 * Doorbell.swift (both sleepers and both wakers) and RingConsumer.release. Records are counted, not stored
 * (records.pml has them): `committed` is the commit of a header.
 *
 * Own: futexWait, wakeMessageWaiters, sendPacket, ringOwed.
 */

#ifndef MESSAGES
#define MESSAGES 3
#endif
#ifndef ROOM
#define ROOM 2 /* messages that fit */
#endif

/* The shared words. */
#define COMMITTED 0
#define MESSAGE_DOORBELL 1
#define RELEASED 2
#define SPACE_DOORBELL 3
#define MEMORY 4

/* The processors. */
#define PRODUCER 0
#define CONSUMER 1
#define BUFFERS 2
#include "store_buffer.inc"

/* Doorbell */
#define awake 0
#define asleepOnFutex 1
#define asleepOnSocket 2
#define polling 3

#define RELEASE 1
#define RELAXED 0

bool isRegisteredForMembarrier;

/* Who waits in the kernel on the message doorbell's futex. */
#define MAIN 0   /* the consumer's thread or loop */
#define STALE 1  /* a wait that was given up, or a thread of a previous owner: nothing happens when it is woken */
#define SECOND 2 /* another thread of the consumer's process that receives on the same port */
bool waitsForMessage[3];
bool waitsForSpace; /* the same for the space doorbell: the producer */
/* Doorbell packets that wait on each side's socket. */
byte consumerPackets, producerPackets;

byte taken;   /* what the consumer has read */
bool isScheduled; /* something else than a doorbell gives the loop a turn */
bool lane;    /* the lane's lock, of the consumer's process */

/* ---- the kernel ------------------------------------------------------------------------------------------------------ */

/* The system call passes locks, so the caller's own stores are in memory. */
inline futexWait(cpu, word, isWaiting) {
  drainAll(cpu);
  d_step {
    if
    :: memory[word] == asleepOnFutex -> isWaiting = true
    :: else -> skip
    fi
  }
}

inline wakeMessageWaiters() {
#ifdef WAKE_ONE_WITH_STALE_WAITER
  if
  :: waitsForMessage[STALE] -> waitsForMessage[STALE] = false
  :: waitsForMessage[MAIN] -> waitsForMessage[MAIN] = false
  :: !waitsForMessage[STALE] && !waitsForMessage[MAIN] -> skip
  fi
#else
  d_step { /* FUTEX_WAKE, INT_MAX */
    waitsForMessage[MAIN] = false;
    waitsForMessage[STALE] = false;
    waitsForMessage[SECOND] = false
  }
#endif
}

inline sendPacket(packets) {
  if
  :: packets < 2 -> packets++
  :: packets == 2 -> skip /* the queue is full, hence readable */
  fi
}

/* A relaxed compare-exchange: atomic on its word, and no fence for others. Its processor has no store to that word
 * pending: only the sleeper stores to it. */
inline takeDoorbell(word, announced, isTaken) {
  d_step {
    isTaken = (memory[word] == announced);
    if
    :: isTaken -> memory[word] = awake
    :: else -> skip
    fi
  }
}

#ifdef TWO_SLEEPERS
#define LOCK atomic { !lane && buffer[CONSUMER].count == 0 -> lane = true }
#define UNLOCK lane = false
#else
#define LOCK skip
#define UNLOCK skip
#endif

#define IS_ASLEEP(doorbell) (doorbell == asleepOnFutex || doorbell == asleepOnSocket)

/* ---- the producer ---------------------------------------------------------------------------------------------------- */

inline wakeConsumer() {
  load(PRODUCER, MESSAGE_DOORBELL, doorbell);
  if
  :: IS_ASLEEP(doorbell) ->
     takeDoorbell(MESSAGE_DOORBELL, doorbell, isTaken);
     if
     :: isTaken && doorbell == asleepOnSocket -> sendPacket(consumerPackets)
     :: isTaken && doorbell == asleepOnFutex -> wakeMessageWaiters()
     :: else -> skip
     fi
  :: else -> skip
  fi
}

proctype Producer() {
  byte posted, doorbell, seenReleased;
  bool isTaken, mustFence;
  do
  :: posted == MESSAGES -> break
  :: posted < MESSAGES ->
     do /* waitForSpace, spaceTurn */
     :: load(PRODUCER, RELEASED, seenReleased);
        if
        :: posted - seenReleased < ROOM -> break
        :: else -> skip
        fi;
        /* prepareToSleep(_:until:) */
        if
        :: doorbell = asleepOnFutex
        :: doorbell = asleepOnSocket
        fi;
#ifdef LOOK_BEFORE_ANNOUNCE_SPACE
        load(PRODUCER, RELEASED, seenReleased);
#endif
        store(PRODUCER, SPACE_DOORBELL, doorbell, RELAXED);
#ifndef NO_FENCE_SPACE_SLEEPER
        drainAll(PRODUCER);
#endif
#ifndef LOOK_BEFORE_ANNOUNCE_SPACE
        load(PRODUCER, RELEASED, seenReleased);
#endif
        if
        :: posted - seenReleased < ROOM -> store(PRODUCER, SPACE_DOORBELL, awake, RELAXED); break
        :: else -> skip
        fi;
        if
        :: doorbell == asleepOnFutex -> futexWait(PRODUCER, SPACE_DOORBELL, waitsForSpace); !waitsForSpace
        :: doorbell == asleepOnSocket -> producerPackets > 0; producerPackets = 0
        fi
     od;
     posted++;
     store(PRODUCER, COMMITTED, posted, RELEASE); /* commit */

     /* consumerSleeps */
     mustFence = true;
     if
#ifdef SKIP_FENCE_WITHOUT_REGISTRATION
     :: true ->
#else
     :: isRegisteredForMembarrier ->
#endif
        load(PRODUCER, MESSAGE_DOORBELL, doorbell);
        mustFence = (doorbell != polling)
     :: else -> skip
     fi;
     if
     :: mustFence ->
#ifndef NO_FENCE_PRODUCER
        drainAll(PRODUCER);
#endif
        wakeConsumer()
     :: else -> skip
     fi;
     d_step { mustFence = false; doorbell = 0; isTaken = false; seenReleased = 0 }
  od
}

/* ---- the consumer ---------------------------------------------------------------------------------------------------- */

inline wakeProducer() {
  load(CONSUMER, SPACE_DOORBELL, doorbell);
  if
  :: IS_ASLEEP(doorbell) ->
     takeDoorbell(SPACE_DOORBELL, doorbell, isTaken);
     if
     :: isTaken && doorbell == asleepOnSocket -> owesRing = true
     :: isTaken && doorbell == asleepOnFutex -> waitsForSpace = false
     :: else -> skip
     fi
  :: else -> skip
  fi
}

/* if consumer.takeOwedRing() { channel.ring() } */
inline ringOwed() {
  if
  :: owesRing -> owesRing = false; sendPacket(producerPackets)
  :: else -> skip
  fi
}

inline release() {
  if
  :: released != taken ->
     released = taken;
     store(CONSUMER, RELEASED, released, RELEASE);
#ifndef NO_FENCE_RELEASE
     drainAll(CONSUMER);
#endif
     wakeProducer();
     ringOwed()
  :: else -> skip
  fi
}

inline prepareToSleep(kind) {
  hasReleased = (released != taken);
  if
#ifdef SLEEP_WITHOUT_RELEASE
  :: hasReleased -> hasReleased = false
#else
  :: hasReleased -> released = taken; store(CONSUMER, RELEASED, released, RELEASE)
#endif
  :: else -> skip
  fi;
#ifdef LOOK_BEFORE_ANNOUNCE
  load(CONSUMER, COMMITTED, word);
#endif
  load(CONSUMER, MESSAGE_DOORBELL, doorbell);
  wasPolling = (doorbell == polling);
  store(CONSUMER, MESSAGE_DOORBELL, kind, RELAXED);
  maySleep = true;
#ifndef NO_MEMBARRIER
  if
  :: wasPolling ->
     /* membarrier: a full fence here, one in every registered process at some moment, and one here again. */
     drainAll(CONSUMER);
     if
     :: isRegisteredForMembarrier -> drainAll(PRODUCER)
     :: else -> skip
     fi
#ifdef MEMBARRIER_FAILS
  :: wasPolling ->
     store(CONSUMER, MESSAGE_DOORBELL, polling, RELAXED);
#ifndef UNREPAIRED
     drainAll(CONSUMER);
     if
     :: hasReleased -> wakeProducer()
     :: else -> skip
     fi;
#endif
     maySleep = false
#endif
  :: !wasPolling -> skip
  fi;
#endif
  if
  :: maySleep ->
#ifndef NO_FENCE_CONSUMER
     drainAll(CONSUMER);
#endif
     if
     :: hasReleased -> wakeProducer()
     :: else -> skip
     fi;
#ifndef LOOK_BEFORE_ANNOUNCE
     load(CONSUMER, COMMITTED, word); /* isEmpty */
#endif
     if
     :: word > taken ->
#ifndef UNREPAIRED
        /* wakeSleepers: another thread may sleep on the announcement that this takes back */
        store(CONSUMER, MESSAGE_DOORBELL, awake, RELAXED);
        drainAll(CONSUMER);
        wakeMessageWaiters();
#else
        store(CONSUMER, MESSAGE_DOORBELL, awake, RELAXED);
#endif
        maySleep = false
     :: else -> skip
     fi
  :: else -> skip
  fi;
  ringOwed();
  hasReleased = false;
  wasPolling = false
}

#define ALL_TAKEN (taken == MESSAGES)

/* The thread that receives: an event loop on one of its drivers, or a thread in receive(). */
proctype Consumer() {
  byte doorbell, word, released, kind;
  bool isTaken, owesRing, hasReleased, wasPolling, maySleep;
  do
  :: ALL_TAKEN -> release(); break
  :: !ALL_TAKEN ->
     LOCK;
     load(CONSUMER, COMMITTED, word);
     if
     :: word > taken -> /* take */
        taken++;
        if
        :: release() /* an eighth of the ring was read */
        :: skip
        fi;
        UNLOCK
     :: word == taken ->
        if
        :: true ->
           if
#ifdef EPOLL_DRIVER
           :: kind = asleepOnSocket
#else
           :: kind = asleepOnFutex
#ifndef TWO_SLEEPERS
           :: kind = asleepOnSocket
#endif
#endif
           fi;
           prepareToSleep(kind);
           UNLOCK;
           if
           :: maySleep && kind == asleepOnFutex ->
              futexWait(CONSUMER, MESSAGE_DOORBELL, waitsForMessage[MAIN]);
              !waitsForMessage[MAIN] || ALL_TAKEN
           :: maySleep && kind == asleepOnSocket ->
              consumerPackets > 0 || isScheduled || ALL_TAKEN;
              d_step { consumerPackets = 0; isScheduled = false } /* drainDoorbells */
           :: else -> skip
           fi
#ifndef TWO_SLEEPERS
        :: load(CONSUMER, MESSAGE_DOORBELL, doorbell); /* startPolling, and look again */
           if
           :: doorbell != polling -> store(CONSUMER, MESSAGE_DOORBELL, polling, RELAXED)
           :: else -> skip
           fi
#endif
#ifdef AWAKE_FROM_POLLING
        :: load(CONSUMER, MESSAGE_DOORBELL, doorbell); /* stayAwake, while the doorbell may say that this side polls */
           if
#ifndef UNREPAIRED
           :: IS_ASLEEP(doorbell) -> store(CONSUMER, MESSAGE_DOORBELL, awake, RELAXED)
#else
           :: doorbell != awake -> store(CONSUMER, MESSAGE_DOORBELL, awake, RELAXED)
#endif
           :: else -> skip
           fi
#endif
        fi
     fi;
     d_step { word = 0; doorbell = 0; isTaken = false; maySleep = false; kind = 0 }
  od
}

#ifdef TWO_SLEEPERS
/* Another thread in receive() on the same port: it wants one message. Threads of one process take turns under the lane's
 * lock, and what one stored before it gave the lock away the other sees: they share the buffer, empty at each hand-over. */
proctype SecondReceiver() {
  byte doorbell, word, released;
  bool isTaken, owesRing, hasReleased, wasPolling, maySleep;
  do
  :: ALL_TAKEN -> break
  :: !ALL_TAKEN ->
     LOCK;
     load(CONSUMER, COMMITTED, word);
     if
     :: word > taken ->
        taken++;
        UNLOCK;
#ifndef UNREPAIRED
        isScheduled = true; /* loop.schedule: the loop's announcement may have been overwritten by this thread's */
#endif
        break
     :: word == taken ->
        prepareToSleep(asleepOnFutex);
        UNLOCK;
        if
        :: maySleep ->
           futexWait(CONSUMER, MESSAGE_DOORBELL, waitsForMessage[SECOND]);
           !waitsForMessage[SECOND] || ALL_TAKEN
        :: else -> skip
        fi
     fi
  od
}
#endif

init {
  atomic {
    if
    :: isRegisteredForMembarrier = true
    :: skip
    fi;
    if
    :: waitsForMessage[STALE] = true
    :: skip
    fi;
    run Drain(PRODUCER);
    run Drain(CONSUMER);
    run Producer();
    run Consumer();
#ifdef TWO_SLEEPERS
    run SecondReceiver()
#endif
  }
}
