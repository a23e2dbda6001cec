/* Sleeping without a lost wake-up: the [sleep] protocol. See README.md for what is abstracted.
 *
 * Doorbell.swift (both sleepers and both wakers) and RingConsumer.release. Records are counted, not stored
 * (records.pml has them): `committed` is the commit of a header.
 *
 * Own: futexWait, wakeMessageWaiters, sendPacket, ringOwed, sleepOnBoth, wakeDoorbell, ringPrivateWord, localEvent.
 *
 * Whoever sleeps sleeps on two words: the doorbell, which the peer can reach, and a private word of its process, which
 * counts local events. What a process has written into a doorbell it remembers (`announced`) and never reads back.
 *
 *   default            an honest producer and an honest consumer
 *   TWO_SLEEPERS       the consumer's event loop, and a thread in receive() on the same port
 *   HOSTILE_PRODUCER   two threads in receive(); the peer does as it likes; this end departs and closes
 *   HOSTILE_CONSUMER   a thread in waitForSpace(), likewise
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
#define RELEASE 1
#define RELAXED 0

/* Doorbell */
#define awake 0
#define asleepOnFutex 1
#define asleepOnSocket 2
#define polling 3

#if defined(HOSTILE_PRODUCER) || defined(HOSTILE_CONSUMER)
#define HOSTILE
#ifndef HOSTILE_STEPS
#define HOSTILE_STEPS 3
#endif
/* What is shown here is ordered by the lane's lock and by system calls: nothing waits in a buffer. */
#define store(cpu, where, what, releasing) memory[where] = what
#endif

bool isRegisteredForMembarrier;

/* Who is in the kernel, on both words; and whom a hostile peer has requeued, away from the doorbell. */
#define MAIN 0   /* the consumer's thread or loop */
#define STALE 1  /* a wait that was given up, or a thread of a previous owner: nothing happens when it is woken */
#define SECOND 2 /* another thread of the consumer's process that receives on the same port */
#define SPACE 3  /* the producer, on the space doorbell */
bool sleeps[4];
bool isMoved[4];
/* Doorbell packets that wait on each side's socket. */
byte consumerPackets, producerPackets;

/* What the consumer's process has for itself, under the lane's lock; with HOSTILE_CONSUMER, the producer's. */
bool lane;        /* the lock */
byte taken;       /* what was read */
byte released;    /* what of that was released */
byte announced;   /* what this process wrote into its doorbell last: its promise */
byte privateWord; /* counts local events */
bool isScheduled; /* something else than a doorbell gives the loop a turn */
bool loopTakes = true, threadTakes = true; /* it has a handler; it is in receive() */

/* PortLifecycle.State */
#define open 0
#define departing 1
#define closed 2 /* or gone to another process */
byte lifecycle = open;

/* ---- the kernel ------------------------------------------------------------------------------------------------------ */

/* FUTEX_WAITV. The system call passes locks, so the caller's own stores are in memory. */
inline sleepOnBoth(cpu, word, who, ticket) {
  drainAll(cpu);
  d_step {
    if
    :: memory[word] == asleepOnFutex && privateWord == ticket -> sleeps[who] = true; isMoved[who] = false
    :: else -> skip
    fi
  }
}

inline wakeDoorbell(who) {
  if
  :: sleeps[who] && !isMoved[who] -> sleeps[who] = false
  :: else -> skip
  fi
}

inline wakeMessageWaiters() {
#ifdef WAKE_ONE_WITH_STALE_WAITER
  if
  :: sleeps[STALE] -> sleeps[STALE] = false
  :: sleeps[MAIN] -> sleeps[MAIN] = false
  :: !sleeps[STALE] && !sleeps[MAIN] -> skip
  fi
#else
  d_step { /* FUTEX_WAKE, INT_MAX */
    wakeDoorbell(MAIN);
    wakeDoorbell(STALE);
    wakeDoorbell(SECOND)
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
inline takeDoorbell(word, announcement, isTaken) {
  d_step {
    isTaken = (memory[word] == announcement);
    if
    :: isTaken -> memory[word] = awake
    :: else -> skip
    fi
  }
}

/* ---- within a process ------------------------------------------------------------------------------------------------- */

/* Threads of a process take turns under the lane's lock, and what one stored before it gave the lock away the other sees:
 * they share the buffer, empty at each hand-over. */
#ifdef HOSTILE_CONSUMER
#define THIS_SIDE PRODUCER
#else
#define THIS_SIDE CONSUMER
#endif
#if defined(TWO_SLEEPERS) || defined(HOSTILE)
#define LOCK atomic { !lane && buffer[THIS_SIDE].count == 0 -> lane = true }
#define UNLOCK lane = false
#else
#define LOCK skip
#define UNLOCK skip
#endif

/* A local event, once what it is about is written: everybody of this process looks again. */
inline ringPrivateWord() {
  d_step {
#ifndef RING_WITHOUT_COUNTING
    privateWord++;
#endif
    sleeps[MAIN] = false; /* FUTEX_WAKE, INT_MAX, on the private word: no requeueing reaches those */
    sleeps[SECOND] = false;
#ifdef HOSTILE_CONSUMER
    sleeps[SPACE] = false;
#endif
    isScheduled = loopTakes
  }
}

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
  byte posted, doorbell, seenReleased, ticket;
  bool isTaken, mustFence;
  do
  :: posted == MESSAGES -> break
  :: posted < MESSAGES ->
     do /* waitForSpace, spaceTurn */
     :: LOCK;
#ifdef HOSTILE_CONSUMER
        if
        :: lifecycle == closed -> UNLOCK; goto left
        :: else -> skip
        fi;
#endif
        load(PRODUCER, RELEASED, seenReleased);
        if
        :: posted - seenReleased < ROOM -> UNLOCK; break
        :: else -> skip
        fi;
        ticket = privateWord;
        /* prepareToSleep(_:until:) */
        if
        :: doorbell = asleepOnFutex
#ifndef HOSTILE_CONSUMER
        :: doorbell = asleepOnSocket
#endif
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
        :: posted - seenReleased < ROOM -> store(PRODUCER, SPACE_DOORBELL, awake, RELAXED); UNLOCK; break
        :: else -> UNLOCK
        fi;
        if
        :: doorbell == asleepOnFutex ->
           sleepOnBoth(PRODUCER, SPACE_DOORBELL, SPACE, ticket);
           !sleeps[SPACE]
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
     d_step { mustFence = false; doorbell = 0; isTaken = false; seenReleased = 0; ticket = 0 }
  od;
left:
  skip
}

/* ---- the consumer ---------------------------------------------------------------------------------------------------- */

inline wakeProducer() {
  load(CONSUMER, SPACE_DOORBELL, doorbell);
  if
  :: IS_ASLEEP(doorbell) ->
     takeDoorbell(SPACE_DOORBELL, doorbell, isTaken);
     if
     :: isTaken && doorbell == asleepOnSocket -> owesSignal = true
     :: isTaken && doorbell == asleepOnFutex -> sleeps[SPACE] = false
     :: else -> skip
     fi
  :: else -> skip
  fi
}

/* if consumer.takeOwedSignal() { channel.signal() } */
inline ringOwed() {
  if
  :: owesSignal -> owesSignal = false; sendPacket(producerPackets)
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

inline announce(word) { announced = word; store(CONSUMER, MESSAGE_DOORBELL, word, RELAXED) }

/* stayAwake: nobody of this process need be rung any more. A promise to poll stays one until a barrier ends it. */
inline takeAnnouncementBack() {
  if
  :: IS_ASLEEP(announced) -> announce(awake)
#ifdef POLLING_TAKEN_BACK_WITHOUT_BARRIER
  :: announced == polling -> announce(awake)
#endif
  :: else -> skip
  fi
}

/* membarrier: a full fence here, one in every registered process at some moment, and one here again. */
inline membarrier() {
  drainAll(CONSUMER);
  if
  :: isRegisteredForMembarrier -> drainAll(PRODUCER)
  :: else -> skip
  fi
}

/* Announces, and looks again. Under the lane's lock; owesSignal is what is left to do after it. */
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
#ifdef PROMISE_READ_BACK
  load(CONSUMER, MESSAGE_DOORBELL, doorbell);
  wasPolling = (doorbell == polling);
  assert(wasPolling == (announced == polling)); /* no barrier for a promise that was never made, none left out */
#else
  wasPolling = (announced == polling);
#endif
  announce(kind);
  maySleep = true;
#ifndef NO_MEMBARRIER
  if
  :: wasPolling -> membarrier()
#ifdef MEMBARRIER_FAILS
  :: wasPolling ->
     announce(polling); /* the promise stays, and so does whoever made it: awake */
#ifndef NO_SPACE_WAKE_ON_FAILURE
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
     :: word > taken -> announce(awake); maySleep = false
     :: else -> skip
     fi
  :: else -> skip
  fi;
  ringOwed();
  hasReleased = false;
  wasPolling = false
}

/* The port goes to another process, which has made no promise: this one redeems its own first. If it cannot, the transfer
 * is refused. The system call that sends the port empties the buffer. */
inline handOver() {
  wasPolling = (announced == polling);
  announce(awake);
#ifndef HAND_OVER_WITHOUT_BARRIER
  if
  :: wasPolling -> membarrier()
#ifdef MEMBARRIER_FAILS
  :: wasPolling -> announce(polling)
#endif
  :: !wasPolling -> skip
  fi;
#endif
  drainAll(CONSUMER);
  wasPolling = false
}

#define ALL_TAKEN (taken == MESSAGES)

#ifndef HOSTILE
/* The thread that receives: an event loop on one of its drivers, or a thread in receive(). */
proctype Consumer() {
  byte doorbell, word, kind, ticket;
  bool isTaken, owesSignal, hasReleased, wasPolling, maySleep;
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
           ticket = privateWord;
           prepareToSleep(kind);
           UNLOCK;
           if
           :: maySleep && kind == asleepOnFutex ->
              sleepOnBoth(CONSUMER, MESSAGE_DOORBELL, MAIN, ticket);
              !sleeps[MAIN] || ALL_TAKEN
           :: maySleep && kind == asleepOnSocket ->
              consumerPackets > 0 || isScheduled || ALL_TAKEN;
              d_step { consumerPackets = 0; isScheduled = false } /* notePackets */
           :: else -> skip
           fi
#ifndef TWO_SLEEPERS
        :: announced != polling -> announce(polling) /* startPolling, and look again */
        :: takeAnnouncementBack()
#ifdef HAND_OVER
        :: handOver()
#endif
#endif
        fi
#ifdef TWO_SLEEPERS
     :: threadTakes -> /* the handler is set to nil: a local event */
        loopTakes = false;
        UNLOCK;
#ifndef HANDLER_GONE_WITHOUT_RINGING
        ringPrivateWord();
#endif
        break
#endif
     fi;
     d_step { word = 0; doorbell = 0; isTaken = false; maySleep = false; kind = 0; ticket = 0 }
  od
}

/* A thread in receive() on the same port, again and again. It may leave, with a message or because its time is over, as
 * long as the loop has a handler. */
proctype SecondReceiver() {
  byte doorbell, word, ticket;
  bool isTaken, owesSignal, hasReleased, wasPolling, maySleep, hasAnnounced, isLeaving;
  do
  :: ALL_TAKEN -> release(); break
  :: !ALL_TAKEN ->
     LOCK;
     load(CONSUMER, COMMITTED, word);
     if
     :: word > taken -> taken++; isLeaving = true /* with a message */
     :: word == taken && isLeaving -> skip        /* without one: its time is over */
     :: word == taken && !isLeaving ->
        ticket = privateWord;
        hasAnnounced = true;
        prepareToSleep(asleepOnFutex)
     fi;
     isLeaving = (isLeaving && loopTakes); /* otherwise receive() is called again */
     threadTakes = !isLeaving;
     UNLOCK;
     if
     :: isLeaving ->
#ifndef LEFT_WITHOUT_RINGING
        if
        :: hasAnnounced -> ringPrivateWord() /* it has replaced what others announced, or taken it back */
        :: else -> skip
        fi;
#endif
        break
     :: maySleep ->
        sleepOnBoth(CONSUMER, MESSAGE_DOORBELL, SECOND, ticket);
        if
        :: !sleeps[SECOND] || ALL_TAKEN
        :: loopTakes -> sleeps[SECOND] = false; isLeaving = true /* timed out */
        fi
     :: else -> skip
     fi;
     d_step { word = 0; doorbell = 0; isTaken = false; maySleep = false; ticket = 0 }
  od
}
#endif

/* ---- a hostile peer ---------------------------------------------------------------------------------------------------- */

#ifdef HOSTILE
#ifdef HOSTILE_CONSUMER
#define BELL SPACE_DOORBELL
#else
#define BELL MESSAGE_DOORBELL
#endif

/* Whatever a process can do that has the memory mapped. */
proctype Hostile() {
  byte steps;
  do
  :: steps < HOSTILE_STEPS ->
     steps++;
     if
     :: memory[BELL] = awake
     :: memory[BELL] = asleepOnFutex
     :: memory[BELL] = asleepOnSocket
     :: memory[BELL] = polling
     :: d_step { wakeDoorbell(MAIN); wakeDoorbell(SECOND); wakeDoorbell(SPACE) } /* FUTEX_WAKE for nothing */
     :: d_step { isMoved[MAIN] = sleeps[MAIN]; isMoved[SECOND] = sleeps[SECOND]; isMoved[SPACE] = sleeps[SPACE] }
#ifdef HOSTILE_PRODUCER
     :: memory[COMMITTED] < MESSAGES -> memory[COMMITTED] = memory[COMMITTED] + 1 /* and rings nobody */
#else
     :: memory[RELEASED] < memory[COMMITTED] -> memory[RELEASED] = memory[RELEASED] + 1
#endif
     fi
  :: break
  od
}

/* A thread in receive(), until the port is closed, or has gone. */
proctype Receiver(byte who) {
  byte doorbell, word, ticket;
  bool isTaken, owesSignal, hasReleased, wasPolling, maySleep;
  do
  :: LOCK;
     if
     :: lifecycle == closed -> UNLOCK; break
     :: lifecycle == departing -> /* what becomes of the port is a local event */
        ticket = privateWord;
        UNLOCK;
        d_step {
          if
          :: privateWord == ticket -> sleeps[who] = true; isMoved[who] = false
          :: else -> skip
          fi
        };
        !sleeps[who]
     :: lifecycle == open ->
        load(CONSUMER, COMMITTED, word);
        if
        :: word > taken -> taken++; UNLOCK /* and comes again */
        :: word == taken ->
#ifdef POLLS
           if
           :: announced != polling -> announce(polling)
           :: skip
           fi;
#endif
#ifndef TICKET_AFTER_UNLOCK
           ticket = privateWord;
#endif
           prepareToSleep(asleepOnFutex);
           UNLOCK;
#ifdef TICKET_AFTER_UNLOCK
           ticket = privateWord;
#endif
           if
           :: maySleep ->
              sleepOnBoth(CONSUMER, MESSAGE_DOORBELL, who, ticket);
              !sleeps[who]
           :: else -> skip
           fi
        fi
     fi;
     d_step { word = 0; doorbell = 0; isTaken = false; maySleep = false; ticket = 0 }
  od
}

/* What is to be seen is written under the lock, then the word is rung. No step waits for anybody, or for the peer. That
 * a departure begins need not be told: whoever sleeps hears what becomes of it. */
inline localEvent(state) {
#ifdef RING_BEFORE_STATE
  ringPrivateWord();
#endif
  LOCK;
  lifecycle = state;
#ifdef HOSTILE_PRODUCER
  takeAnnouncementBack();
#endif
  UNLOCK;
#ifdef RINGS_THE_DOORBELL_ONLY
  memory[BELL] = awake;
  d_step { wakeDoorbell(MAIN); wakeDoorbell(SECOND); wakeDoorbell(SPACE) }
#else
#ifndef RING_BEFORE_STATE
  if
  :: state != departing -> ringPrivateWord()
  :: else -> skip
  fi
#endif
#endif
}

/* The port departs, the transfer is refused or not; or it is closed. */
proctype Owner() {
#ifdef HOSTILE_PRODUCER
  if
  :: localEvent(departing);
     if
     :: localEvent(open)
     :: skip
     fi
  :: skip
  fi;
#endif
  localEvent(closed)
}
#endif

init {
  atomic {
#ifndef HOSTILE
    if
    :: isRegisteredForMembarrier = true
    :: skip
    fi;
    if
    :: sleeps[STALE] = true
    :: skip
    fi;
    run Drain(PRODUCER);
    run Drain(CONSUMER);
#endif
#ifndef HOSTILE_PRODUCER
    run Producer();
#endif
#ifdef HOSTILE
#ifdef HOSTILE_PRODUCER
    run Receiver(MAIN);
    run Receiver(SECOND);
#endif
    run Hostile();
    run Owner()
#else
    run Consumer();
#ifdef TWO_SLEEPERS
    run SecondReceiver()
#endif
#endif
  }
}
