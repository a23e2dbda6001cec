/* Closing against posting, against being killed, against a receiver. See README.md for what is abstracted.
 *
 * PortCore+Leave.swift (close), PortCore+Loop.swift (ready, peerHungUp, watchIfShared), PortCore+Turn.swift (turn,
 * nextDelivery, finish, prepareToSleep), PortCore+Receive.swift (receive, sleep), ReceivingHalf.swift (lookAhead),
 * Transfer.swift (goOnAfterRefusal), LoopRunner.swift, SharedChannel.swift.
 *
 * Threads in receive() sleep on the doorbell and on a private word; what this process has to tell them, the hang-up too, it
 * tells by the private one.
 *
 * The far end posts, and closes or is killed at any step. The near end receives on its event loop (default), or in a
 * thread that blocks in receive() while the loop listens for the hang-up (RECEIVE_THREAD).
 *
 * Own: lock, unlock, lockedPost, deliverMessage, deliverClose, failedTransfer, wakeDoorbell, ringPrivateWord.
 */

#ifndef MESSAGES
#define MESSAGES 3
#endif

/* Doorbell */
#define awake 0
#define asleepOnFutex 1
#define asleepOnSocket 2
#ifdef EPOLL_DRIVER
#define DRIVER_DOORBELL asleepOnSocket
#else
#define DRIVER_DOORBELL asleepOnFutex
#endif

/* PortLifecycle.State of the near end */
#define open 0
#define departing 1
#define closed 2

/* ---- the lane, and the socket -------------------------------------------------------------------------------------- */

byte committed;           /* records in the ring */
byte whole;               /* those with all of their payload */
byte doorbell;
bool loopWaits, threadWaits; /* in the kernel, on the doorbell's futex; the thread on its private word, too */
bool threadIsMoved;       /* a hostile peer has requeued it, away from the doorbell */
byte packets;             /* doorbell packets at the near end */
bool isClosedByOwner;     /* sayClosed */
bool isHungUp;            /* the kernel's word: nobody holds the far end any more */

/* ---- the far end ----------------------------------------------------------------------------------------------------- */

byte returned;            /* posts that have returned */
bool isKilled;
bool isPosting;           /* the lock of the lane on which it posts */
bool farIsClosed;         /* its lifecycle */
bool secondPosterLives, farHasEnded;

/* ---- the near end ---------------------------------------------------------------------------------------------------- */

bool lane;                /* the lane's lock */
byte privateWord;         /* counts local events */
byte lifecycle = open;
byte taken;
bool hasMessageHandler, hasCloseHandler, isScheduled;
bool hasWaiter;           /* a task waits for the next message */
#define endOpen 0
#define endGone 1
#define endDelivered 2
byte receiverEnd;
bool inbox;               /* the loop has to give the port a turn */
bool isWatched;           /* the socket is in the loop's epoll */
bool edge;                /* with an edge-triggered watch: something happened since it was last told */

byte delivered, closes;   /* what the program has seen */
bool hasReturnedFromClose;
bool configured;

#define hasTaker (hasMessageHandler || hasWaiter)
#define wantsEvents (hasMessageHandler || hasCloseHandler || hasWaiter)
#define isEmpty (committed == taken)

inline lock() { atomic { !lane -> lane = true } }
inline unlock() { lane = false }

/* FUTEX_WAKE, all waiters, of the doorbell. */
inline wakeDoorbell() {
  d_step {
    loopWaits = false;
    threadWaits = (threadWaits && threadIsMoved)
  }
}

/* A local event, once what it is about is written and the lock released: threads in receive() look again. */
inline ringPrivateWord() { d_step { privateWord++; threadWaits = false } }

/* ---- posting --------------------------------------------------------------------------------------------------------- */

/* Under the lane's lock, which the caller has. */
inline post() {
#ifdef COMMIT_BEFORE_PAYLOAD
  committed++;
  whole++;
#else
  whole++;     /* the payload, in as many stores as it takes: none of them shows */
  committed++; /* the header */
#endif
  word = doorbell;
  if
  :: word == asleepOnFutex || word == asleepOnSocket ->
     d_step {
       wins = (doorbell == word);
       if
       :: wins -> doorbell = awake
       :: else -> skip
       fi
     };
     if
#ifdef HOSTILE
     :: true -> skip /* it rings nobody */
#endif
     :: wins && word == asleepOnFutex -> wakeDoorbell()
     :: wins && word == asleepOnSocket -> d_step { packets = 1; edge = true }
     :: else -> skip
     fi
  :: else -> skip
  fi;
  returned++
}

inline hangUp() { d_step { isHungUp = true; edge = true } }

inline lockedPost() {
  atomic { !isPosting -> isPosting = true };
  if
  :: farIsClosed -> isPosting = false; break /* throws */
  :: !farIsClosed && committed == MESSAGES -> isPosting = false; break
  :: !farIsClosed && committed < MESSAGES -> post(); isPosting = false
  fi
}

/* One thread posts, then closes, or is killed wherever it is. */
proctype FarEnd() {
  byte word;
  bool wins;
  {
    do
    :: lockedPost()
    :: true -> break
    od;
    if
    :: skip
    :: goto stays /* the program forgets it */
    fi;
    farIsClosed = true; /* close */
#ifndef CLOSE_WITHOUT_LOCK
    atomic { !isPosting -> isPosting = true };
    isClosedByOwner = true; /* sayClosed */
    isPosting = false;
#endif
    hangUp();
stays:
    !secondPosterLives;
    farHasEnded = true
  } unless { isKilled && !farHasEnded -> !secondPosterLives -> hangUp() }
}

/* Another thread of the far end, which posts while the first one closes. */
proctype SecondPoster() {
  byte word;
  bool wins;
  { do
    :: lockedPost()
    :: break
    od
  } unless { isKilled };
  secondPosterLives = false
}

proctype Killer() {
  if
  :: isKilled = true
  :: skip
  fi
}

/* ---- hearing of the hang-up ------------------------------------------------------------------------------------------- */

/* Receiver.notify, and loop.schedule once the lock is released; the loop takes its inbox up in one go. */
inline notify() {
  if
  :: !isScheduled && wantsEvents -> d_step { isScheduled = true; inbox = true }
  :: else -> skip
  fi
}

inline stopWatching() { d_step { isWatched = false; edge = false } }

/* Level-triggered, so a hang-up that came before is reported as well. */
inline watchIfShared() {
  if
  :: lifecycle == open && receiverEnd == endOpen && !isWatched ->
#ifdef WATCH_AFTER_LOOK_WITHOUT_LEVEL
     d_step { isWatched = true; edge = false }
#else
     d_step { isWatched = true; edge = true }
#endif
  :: else -> skip
  fi
}

#ifdef WATCH_AFTER_LOOK_WITHOUT_LEVEL
#define HANG_UP_IS_REPORTED (isWatched && isHungUp && edge)
#else
#define HANG_UP_IS_REPORTED (isWatched && isHungUp)
#endif
#define SOCKET_IS_READABLE (isWatched && packets > 0 && edge)

inline peerHungUp() {
  lock();
  if
  :: lifecycle == open && receiverEnd == endOpen ->
     receiverEnd = endGone;
     notify()
  :: else -> skip
  fi;
  unlock();
#ifdef HANGUP_RINGS_THE_DOORBELL_ONLY
  doorbell = awake;
  wakeDoorbell()
#else
#ifndef HANGUP_WITHOUT_RINGING
  ringPrivateWord()
#endif
#endif
}

/* ---- the event loop --------------------------------------------------------------------------------------------------- */

#define waitResult 1
#define idleResult 2

inline deliverMessage() {
  assert(closes == 0);                      /* nothing after close */
#ifdef CLOSE_FROM_ANOTHER_THREAD
  assert(!hasReturnedFromClose);            /* nothing after one's own close */
#endif
  delivered++;
  assert(delivered == taken)
}

inline deliverClose() {
#ifdef CLOSE_FROM_ANOTHER_THREAD
  assert(!hasReturnedFromClose);
#endif
  closes++;
  assert(closes == 1);                      /* once */
  assert(isHungUp);                         /* the far end is really gone */
  assert(delivered >= returned);            /* what was posted came first */
  assert(delivered == committed)
}

/* turn(budget:), nextDelivery, finish */
inline turn() {
  result = 0;
  do
  :: result != 0 -> break
  :: result == 0 ->
     lock();
     if
     :: lifecycle != open -> isScheduled = false; unlock(); result = idleResult
     :: lifecycle == open && hasTaker && !isEmpty ->
        assert(taken < whole); /* never part of a message */
        taken++;
        hasWaiter = false; /* it comes before the handler */
        unlock();
        deliverMessage()
#ifndef UNREPAIRED
     :: lifecycle == open && receiverEnd == endDelivered && hasWaiter -> hasWaiter = false; unlock()
     :: lifecycle == open && !(hasTaker && !isEmpty) && receiverEnd != endGone && !(receiverEnd == endDelivered && hasWaiter) ->
#else
     :: lifecycle == open && !(hasTaker && !isEmpty) && receiverEnd != endGone ->
#endif
        isScheduled = false;
        result = (hasTaker -> waitResult : idleResult);
        unlock()
#ifdef HANGUP_WITHOUT_DRAIN
     :: lifecycle == open && receiverEnd == endGone ->
#else
     :: lifecycle == open && !(hasTaker && !isEmpty) && receiverEnd == endGone && !isEmpty -> /* lookAhead */
        isScheduled = false;
        unlock();
        result = idleResult
     :: lifecycle == open && receiverEnd == endGone && isEmpty ->
#endif
        if
        :: hasWaiter -> hasWaiter = false; unlock() /* it is resumed with nil */
        :: !hasWaiter && hasCloseHandler ->
#ifndef CLOSE_NOT_REMEMBERED
           receiverEnd = endDelivered;
#endif
           unlock();
           stopWatching();
           deliverClose()
        :: !hasWaiter && !hasCloseHandler -> /* whoever asks later is still told */
           isScheduled = false;
           unlock();
           stopWatching();
           result = idleResult
        fi
     fi
  od
}

/* prepareToSleep of the port */
inline prepareToSleep() {
  lock();
  if
  :: lifecycle == open && hasTaker && receiverEnd == endOpen ->
     doorbell = DRIVER_DOORBELL;
     if
     :: isEmpty ->
        if
        :: DRIVER_DOORBELL == asleepOnFutex -> arms = true
        :: DRIVER_DOORBELL != asleepOnFutex -> skip
        fi
     :: !isEmpty -> doorbell = awake; d_step { isScheduled = true; inbox = true }
     fi
  :: else -> skip
  fi;
  unlock()
}

proctype Loop() {
  byte result;
  bool arms, isArmed;
end:
  do
  :: inbox ->
     inbox = false;
     turn();
     if
     :: result == waitResult -> prepareToSleep()
     :: else -> skip
     fi;
     /* The kernel compares the doorbell when the wait is submitted. A wait that it still has does for this sleep too. */
     if
     :: arms ->
        d_step {
          arms = false;
          if
          :: !isArmed -> isArmed = true; loopWaits = (doorbell == asleepOnFutex)
          :: else -> skip
          fi
        }
     :: else -> skip
     fi
  :: isArmed && !loopWaits -> isArmed = false; inbox = true
  :: atomic { SOCKET_IS_READABLE && !isHungUp -> edge = false }; /* ready: notePackets */
     packets = 0;
     inbox = true
  :: atomic { HANG_UP_IS_REPORTED -> edge = false }; /* ready: IN and HUP */
     packets = 0;
     stopWatching();
#ifdef HANGUP_AS_THE_LAST_EVENT
     /* close is delivered as soon as the kernel says so */
     lock();
     receiverEnd = endDelivered;
     unlock();
     deliverClose();
#else
     peerHungUp();
#endif
     inbox = true
  od
}

/* ---- the program ------------------------------------------------------------------------------------------------------ */

/* configure: sets handlers, at any time and in any order. */
inline configure(handler) {
  lock();
  handler = true;
  if
  :: !isScheduled -> isScheduled = true; mustSchedule = true
  :: else -> skip
  fi;
  unlock();
  if
  :: mustSchedule -> watchIfShared(); inbox = true; mustSchedule = false
  :: else -> skip
  fi
}

/* A post that lists this port fails after describe(in:). Nobody is waited for: threads that sleep see for themselves. */
inline failedTransfer() {
  lock();
  lifecycle = departing; /* begin */
  doorbell = awake;      /* describe: takeAnnouncementBack */
  unlock();
  lock();
  lifecycle = open;
  unlock();
#ifndef NO_GO_ON_AFTER_REFUSAL
#ifndef REFUSAL_WITHOUT_RINGING
  ringPrivateWord();
#endif
  watchIfShared(); /* goOnAfterRefusal */
  inbox = true
#endif
}

#ifdef FAILED_TRANSFER
proctype Mover() { failedTransfer() }
#endif

#ifdef ASYNC_WAITER
/* nextMessage: a task waits for the next message, once. */
proctype Task() {
  lock(); /* tryReceive */
  if
  :: !isEmpty -> d_step { assert(taken < whole); taken++; delivered++ }; unlock()
  :: isEmpty && receiverEnd != endOpen -> unlock()
  :: isEmpty && receiverEnd == endOpen ->
     unlock();
     lock();
     hasWaiter = true; /* receiver.waiters.append */
     unlock();
     watchIfShared();
     inbox = true
  fi
}
#endif

proctype Program() {
  bool mustSchedule;
  if
  :: configure(hasMessageHandler); configure(hasCloseHandler)
  :: configure(hasCloseHandler); configure(hasMessageHandler)
  fi;
  configured = true;
#ifdef CLOSE_FROM_ANOTHER_THREAD
  /* close, on a thread that is not the loop's */
  lifecycle = closed;
  lock(); unlock(); /* the outgoing lane, then the incoming one, and takeApart; a call for each in truth */
  hasReturnedFromClose = true
#endif
#ifdef FAILED_TRANSFER
  failedTransfer();
#endif
}

/* receive(), again and again, until it says that there will be no more. */
proctype ReceiveThread() {
  byte ticket;
  bool maySleep;
  do
  :: lock(); /* receiveOrPrepare */
     ticket = privateWord;
     if
     :: lifecycle == departing -> /* what becomes of the port is a local event */
        unlock();
        d_step { threadWaits = (privateWord == ticket); threadIsMoved = false };
endDeparting:
        !threadWaits
     :: lifecycle == open && !isEmpty -> assert(taken < whole); taken++; unlock(); deliverMessage()
     :: lifecycle == open && isEmpty && receiverEnd != endOpen -> unlock(); deliverClose(); break
     :: lifecycle == open && isEmpty && receiverEnd == endOpen ->
        doorbell = asleepOnFutex; /* prepareToSleep */
        if
        :: isEmpty -> maySleep = true
        :: !isEmpty -> doorbell = awake
        fi;
        unlock();
        if
        :: maySleep -> /* sleepOnDoorbell */
           watchIfShared();
           d_step {
             threadWaits = (doorbell == asleepOnFutex && privateWord == ticket);
             threadIsMoved = false;
             maySleep = false
           };
endAsleep:
           !threadWaits
        :: else -> skip
        fi
     fi
  od
}

#ifdef HOSTILE
#ifndef HOSTILE_STEPS
#define HOSTILE_STEPS 2
#endif
/* What the far end does to those who sleep, besides posting and ringing nobody, until it closes or dies. */
proctype Meddler() {
  byte steps;
endDead:
  do
  :: atomic { steps < HOSTILE_STEPS && !isHungUp -> steps++ };
     if
     :: doorbell = awake
     :: doorbell = asleepOnFutex
     :: doorbell = asleepOnSocket
     :: wakeDoorbell()
     :: threadIsMoved = threadWaits /* FUTEX_REQUEUE */
     fi
  od
}
#endif

/* When nothing happens any more, everybody has heard of everything; of a hostile end, as soon as it is gone. */
proctype Observer() {
#ifdef HOSTILE
  timeout -> assert(!isHungUp || (delivered == committed && closes == 1))
#else
  timeout -> assert(hasReturnedFromClose || (delivered == committed && closes == isHungUp && !(isHungUp && hasWaiter)))
#endif
}

init {
  atomic {
    run FarEnd();
#ifdef SECOND_POSTER
    secondPosterLives = true;
    run SecondPoster();
#endif
    run Killer();
    run Loop();
#ifdef RECEIVE_THREAD
#ifdef FAILED_TRANSFER
    run Mover();
#endif
    run ReceiveThread();
#else
    run Program();
#endif
#ifdef ASYNC_WAITER
    run Task();
#endif
#ifdef HOSTILE
    run Meddler();
#endif
    run Observer()
  }
}
