/* Moving the ends of a channel from process to process. See README.md for what is abstracted.
 *
 * Transfer.swift, Departure.swift (describe), Arrival.swift (arrive), PortCore+Leave.swift (takeApart),
 * PortCore+Turn.swift (notePackets), PortCore+Loop.swift (peerHungUp), LanePosition.swift (resume).
 *
 * Each end of the channel goes through a row of processes, its hosts: host 0 has it first, host i passes it to host
 * i + 1 through another channel, of which only the packet and the record that announces it are modelled. Lane e is
 * posted on by end e.
 *
 * Own: wakeAll.
 */

#ifndef LAST_HOST_0
#define LAST_HOST_0 2 /* end 0: from 0 through the intermediary 1 to 2 */
#endif
#ifndef LAST_HOST_1
#define LAST_HOST_1 0 /* end 1 stays */
#endif
#ifndef MESSAGES_0
#define MESSAGES_0 1
#endif
#ifndef MESSAGES_1
#define MESSAGES_1 2
#endif
#define HOSTS 3
#define SLOTS 4

/* Doorbell */
#define awake 0
#define asleepOnFutex 1
#define asleepOnSocket 2

/* ---- the channel: its memory and its sockets ------------------------------------------------------------------------ */

byte cell[2 * SLOTS];        /* lane e, position p: the number of the message there; 0: not yet */
byte doorbell[2];            /* the message doorbell of lane e; the other end's receiver sleeps on it */
bool waits[2 * HOSTS];       /* in the kernel, on the futex of lane e: host h of the other end */
bool staleWaits[2];          /* the same: a thread of a process that the port has left, or a wait that was given up */
byte packets[2];             /* doorbell packets that end e can read */
byte references[2];          /* descriptors of end e's socket, in processes and in packets */
bool isShutDown[2];          /* hangUp was called on end e */

#define IS_HUNG_UP(end) (references[1 - (end)] == 0 || isShutDown[1 - (end)])

/* ---- the ways between hosts ------------------------------------------------------------------------------------------ */

#define none 0
#define packetSent 1         /* it is in the receiver's socket */
#define recordCommitted 2    /* its record is in the receiver's ring */
#define HAS_PACKET(way) (way == packetSent || way == packetSent + recordCommitted)
#define HAS_RECORD(way) (way >= recordCommitted)
/* A message with ports is there once both are: announce.pml. */
#ifdef RECORD_WITHOUT_PACKET
#define IS_THERE(way) HAS_RECORD(way)
#else
#define IS_THERE(way) (HAS_RECORD(way) && HAS_PACKET(way))
#endif
byte way[2 * HOSTS];         /* from host h of end e to the next */
byte wayWrite[2 * HOSTS], wayRead[2 * HOSTS]; /* LanePosition: outgoing, incoming */
bool isGone[2 * HOSTS];      /* the host will not send or receive anything any more */

/* ---- what the properties speak of ------------------------------------------------------------------------------------- */

byte sent[2], received[2], closes[2];
byte held[2];                /* who really has end e, or a packet with it */
bool closedByOwner[2];

byte messages[2];
byte last[2];

#define ALL_DONE \
  (sent[0] == messages[0] && sent[1] == messages[1] && received[0] == sent[1] && received[1] == sent[0])

#define ME (end * HOSTS + host)
#define INCOMING (1 - end)
#define CELL(lane, position) cell[(lane) * SLOTS + (position)]
#define HAS_MESSAGE (CELL(INCOMING, read) != 0)

inline wakeAll(lane) {
#ifdef WAKE_ONE_WITH_STALE_WAITER
  if
  :: staleWaits[lane] -> staleWaits[lane] = false
  :: waits[(lane) * HOSTS] -> waits[(lane) * HOSTS] = false
  :: waits[(lane) * HOSTS + 1] -> waits[(lane) * HOSTS + 1] = false
  :: waits[(lane) * HOSTS + 2] -> waits[(lane) * HOSTS + 2] = false
  :: else -> skip
  fi
#else
  d_step {
    staleWaits[lane] = false;
    waits[(lane) * HOSTS] = false;
    waits[(lane) * HOSTS + 1] = false;
    waits[(lane) * HOSTS + 2] = false
  }
#endif
}

/* tryWrite, consumerSleeps, wakeConsumer */
inline post() {
  d_step {
    sent[end]++;
    CELL(end, write) = sent[end];
    write++
  };
  word = doorbell[end];
  if
  :: word != awake ->
     d_step {
       isTaken = (doorbell[end] == word);
       if
       :: isTaken -> doorbell[end] = awake
       :: else -> skip
       fi
     };
     if
     :: isTaken && word == asleepOnFutex -> wakeAll(end)
     :: isTaken && word == asleepOnSocket -> packets[1 - end] = 1
     :: else -> skip
     fi
  :: else -> skip
  fi;
  d_step { word = 0; isTaken = false }
}

inline letGo() { d_step { references[end]--; held[end]--; hasEnd = false } }

/* The kernel, when a process ends: its descriptors, and the packets that it has not received. */
inline die() {
  d_step {
    if
    :: hasEnd -> references[end]--; held[end]--
    :: else -> skip
    fi;
    hasEnd = false;
    if
    :: host > 0 && HAS_PACKET(way[ME - 1]) ->
       way[ME - 1] = none;
       references[end]--;
       held[end]--
    :: else -> skip
    fi;
    isGone[ME] = true
  }
}

#ifdef CAN_DIE
#define DEATH :: host < last[end] -> goto dead
#else
#define DEATH
#endif
#define AT_ANY_MOMENT if DEATH :: skip fi

/* A process that has, or will have, the end. Its threads post, receive and transfer under the lane's lock; what they do
 * outside of it is in steps of its own. */
proctype Host(byte end; byte host) {
  byte write, read, word, kind;
  bool hasEnd, isTaken, isAsleep, isPeerGone;

  if
  :: host == 0 -> hasEnd = true
  :: host > 0 ->
     if
     :: IS_THERE(way[ME - 1]) -> /* SharedChannel.receive, arrive: RingProducer.resume, RingConsumer.resume */
        d_step {
          assert(HAS_PACKET(way[ME - 1])); /* else: ports announced and not yet sent */
          write = wayWrite[ME - 1];
          read = wayRead[ME - 1];
          wayWrite[ME - 1] = 0;
          wayRead[ME - 1] = 0;
          way[ME - 1] = none;
          hasEnd = true;
#ifdef QUEUED_PACKETS_DO_NOT_HOLD
          references[end]++
#endif
        }
     :: isGone[ME - 1] && !IS_THERE(way[ME - 1]) -> goto dead /* it sent nothing, or died after announcing it */
#ifdef CAN_DIE
     :: host < last[end] -> goto dead /* as an intermediary, before it has taken the packet */
#endif
     fi
  fi;

  do
  :: sent[end] < messages[end] && !isPeerGone -> post()

  :: !isAsleep && HAS_MESSAGE -> /* take */
     d_step {
       assert(CELL(INCOMING, read) == received[end] + 1); /* in order, each once, across owners */
       assert(closes[end] == 0);
       received[end]++;
       read++
     }

  :: !isAsleep && !HAS_MESSAGE && !isPeerGone && messages[1 - end] > 0 -> /* prepareToSleep */
#if defined(MIXED_DRIVERS)
     if
     :: kind = asleepOnFutex
     :: kind = asleepOnSocket
     fi;
#elif defined(EPOLL_DRIVER)
     kind = asleepOnSocket;
#else
     kind = asleepOnFutex;
#endif
#ifdef LOOK_BEFORE_ANNOUNCE
     isAsleep = !HAS_MESSAGE;
     if
     :: isAsleep -> doorbell[INCOMING] = kind
     :: else -> skip
     fi;
#else
     doorbell[INCOMING] = kind;
     if
     :: HAS_MESSAGE -> doorbell[INCOMING] = awake; kind = awake
     :: else -> isAsleep = true
     fi;
#endif
     if
     :: isAsleep && kind == asleepOnFutex ->
        waits[INCOMING * HOSTS + host] = (doorbell[INCOMING] == asleepOnFutex)
     :: else -> skip
     fi

  :: isAsleep && kind == asleepOnFutex && !waits[INCOMING * HOSTS + host] ->
     d_step { isAsleep = false; kind = awake }
  :: isAsleep && packets[end] > 0 -> d_step { packets[end] = 0; isAsleep = false; kind = awake } /* ready: notePackets */
  :: !isPeerGone && IS_HUNG_UP(end) -> /* ready: peerHungUp, by the private word */
     isPeerGone = true;
     waits[INCOMING * HOSTS + host] = false;
     d_step { isAsleep = false; kind = awake }

  :: !isAsleep && isPeerGone && !HAS_MESSAGE -> /* finish: the close event */
     d_step {
       closes[end]++;
       assert(closes[end] == 1);
       assert(held[1 - end] == 0 || closedByOwner[1 - end]);
       assert(received[end] == sent[1 - end])
     };
     letGo();
     break

  :: host < last[end] -> /* post(_:transfer:) */
     d_step { wayWrite[ME] = write; wayRead[ME] = read }; /* describe, with both lanes' locks taken before by begin */
#ifdef POSITION_BEFORE_LAST_POST
     if
     :: sent[end] < messages[end] -> post()
     :: skip
     fi;
#endif
     doorbell[INCOMING] = awake; /* takeAnnouncementBack */
     AT_ANY_MOMENT;
     way[ME] = recordCommitted; /* publish */
     AT_ANY_MOMENT;
     if
     :: d_step { !isGone[ME + 1] -> /* sendmsg */
#ifndef QUEUED_PACKETS_DO_NOT_HOLD
          references[end]++;
#endif
          held[end]++;
          way[ME] = way[ME] + packetSent
        }
     :: isGone[ME + 1] -> /* EPIPE: the message is discarded, and its ports close */
        d_step { closedByOwner[end] = true; isShutDown[end] = true };
        letGo();
        break
     fi;
     AT_ANY_MOMENT;
#ifdef UNREPAIRED
     if /* the old owner's loop was being told of a packet: ready, notePackets */
     :: packets[end] > 0 -> packets[end] = 0
     :: skip
     fi;
#endif
#ifdef DETACH_SILENCES_DOORBELL
     doorbell[INCOMING] = awake; /* takeApart, as if the port were still this process's */
#endif
     waits[INCOMING * HOSTS + host] = false; /* takeApart: dismiss, by the private word */
#ifdef HANGUP_ON_DETACH
     isShutDown[end] = true;
#endif
     letGo(); /* the last reference to the SharedChannel */
     break

#ifdef CAN_CLOSE
  :: host == last[end] -> /* close */
     d_step { closedByOwner[end] = true; isShutDown[end] = true };
     letGo();
     break
#endif
  DEATH
  :: ALL_DONE -> break
  od;
  isGone[ME] = true;
  goto finished;
dead:
  die();
finished:
  skip;
  d_step { write = 0; read = 0; kind = 0; isAsleep = false; isPeerGone = false; hasEnd = false }
}

/* A thread of end 0's first owner, in receive(): it was about to sleep when the port left, and goes to sleep on what the
 * new owner announced. */
proctype StaleWaiter() {
end:
  d_step { doorbell[1] == asleepOnFutex -> staleWaits[1] = true }
}

init {
  atomic {
    messages[0] = MESSAGES_0;
    messages[1] = MESSAGES_1;
    last[0] = LAST_HOST_0;
    last[1] = LAST_HOST_1;
    references[0] = 1;
    references[1] = 1;
    held[0] = 1;
    held[1] = 1;
    run Host(0, 0);
    run Host(1, 0);
    if
    :: LAST_HOST_0 >= 1 -> run Host(0, 1)
    :: else -> skip
    fi;
    if
    :: LAST_HOST_0 >= 2 -> run Host(0, 2)
    :: else -> skip
    fi;
    if
    :: LAST_HOST_1 >= 1 -> run Host(1, 1)
    :: else -> skip
    fi;
    if
    :: LAST_HOST_1 >= 2 -> run Host(1, 2)
    :: else -> skip
    fi;
#ifdef STALE_WAITER
    run StaleWaiter()
#endif
  }
}
