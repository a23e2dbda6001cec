/* Ports announced by a record before their packet. See README.md for what is abstracted.
 *
 * One lane, whose messages may carry ports, and the socket of the end that receives. A message with ports is there once its
 * record and its packet are: the record is committed first, the packet sent next, and then the doorbell is looked at. If the
 * kernel refuses the packet, a record that withdraws the announcement follows. So a packet whose record the receiver cannot
 * see was announced by nobody.
 *
 *   default   the far end is honest, and is killed at any step, or not
 *   HOSTILE   it commits and sends what it likes, its own end of the channel too, rings nobody, and dies
 *
 * RecordReader.swift (seekLast, packet, prepareToSleep), Transfer.swift (post), PortCore+Turn.swift (notePackets),
 * SplitEnd.swift (ready). Own: violate, takePacket.
 */

#ifndef POSTS
#define POSTS 3
#endif
#ifndef HOSTILE_STEPS
#define HOSTILE_STEPS 4
#endif
#define SLOTS 10 /* a reader looks one record ahead of the last */
#define ROOM 2 /* packets that the socket holds */

/* Kinds of records. */
#define none 0
#define plain 1
#define withPorts 2
#define withdrawn 3

/* What a packet carries. */
#define otherPort 1
#define ownEnd 2 /* the far end of this very channel */

/* ---- what the two ends share ----------------------------------------------------------------------------------------- */

byte record[SLOTS], number[SLOTS]; /* of each record, and which post it belongs to */
chan socket = [ROOM] of { byte, byte }; /* content, post */
bool isAsleep;      /* the doorbell, and whether anybody sleeps on it: one step, sleep_wake.pml has it in parts */
bool isReadable;    /* edge-triggered: a packet has come since the loop was last told */
bool isHeld = true; /* the far end's process has its end */
byte inQueue;       /* packets on the socket with the far end in them */

#define IS_HUNG_UP (!isHeld && inQueue == 0)

/* ---- the far end ------------------------------------------------------------------------------------------------------ */

byte tail, posted, returned;
bool isDone;

inline commit(kind) { d_step { number[tail] = posted; record[tail] = kind; tail++ } }

inline wake() { isAsleep = false }

/* sendmsg: the kernel takes the packet, or refuses it: the queue is full, descriptors in flight, nesting too deep. */
inline send(content, isSent) {
  if
  :: atomic { nfull(socket) -> socket!content, posted; isReadable = true; inQueue = inQueue + (content == ownEnd); isSent = true }
  :: isSent = false
  fi
}

#ifndef HOSTILE
proctype FarEnd() {
  bool isSent;
  {
    do
    :: posted == POSTS -> break
    :: posted < POSTS ->
       posted++;
       if
       :: commit(plain); wake(); returned++
#ifdef PACKET_BEFORE_RECORD
       :: send(otherPort, isSent);
          if
          :: isSent -> commit(withPorts); wake(); returned++
          :: else -> skip
          fi
#else
       :: commit(withPorts);
          send(otherPort, isSent);
          if
          :: isSent -> returned++
          :: !isSent ->
#ifndef REFUSED_WITHOUT_WITHDRAWAL
             commit(withdrawn) /* and the post throws; there is always room for this header */
#else
             skip
#endif
          fi;
          wake()
#endif
       fi
    od;
    isDone = true
  } unless { !isHeld }
}

proctype Killer() {
  if
  :: isHeld = false /* the kernel closes what it held */
  :: skip
  fi
}
#else
proctype FarEnd() {
  byte steps;
  bool isSent;
  do
  :: steps < HOSTILE_STEPS ->
     d_step { steps++; posted = 0 };
     if
     :: commit(plain)
     :: commit(withPorts)
     :: commit(withdrawn)
     :: send(otherPort, isSent)
     :: send(ownEnd, isSent)
     :: wake()
     fi
  :: break
  od;
  isHeld = false
}
#endif

/* ---- the near end ----------------------------------------------------------------------------------------------------- */

bool lane;           /* the lane's lock */
byte head;
bool packetsMayWait; /* the loop was told of a packet, and the reader has not looked since */
bool isGone;         /* the loop has heard of the hang-up */
bool isClosed, isViolated;
byte delivered;

inline lock() { atomic { !lane -> lane = true } }
inline unlock() { lane = false }

inline violate() {
#ifndef HOSTILE
  assert(false); /* an honest end is never accused */
#endif
  isViolated = true; isClosed = true; isAsleep = false
}

/* The packet at the head of the socket belongs to the record at the head of the lane. */
inline takePacket() {
  socket?content, post;
#ifndef HOSTILE
  assert(post == number[head]);
#endif
  d_step {
    inQueue = inQueue - (content == ownEnd); /* the program lets go of what it gets */
    content = 0;
    post = 0;
    head++;
    delivered++
  }
}

/* Takes the next message, or says why there is none: `waits` for more, or the peer broke the rules. */
inline look() {
  waits = false;
  next = none;
#ifdef NEXT_BEFORE_PACKET
  next = record[head + 1];
#endif
  hasPacket = (record[head] == withPorts && nempty(socket)); /* MSG_PEEK, only for a record that announces */
#ifndef NEXT_BEFORE_PACKET
  next = record[head + 1]; /* after it: whoever sent a later packet had withdrawn this announcement before */
#endif
  if
  :: record[head] == plain -> d_step { head++; delivered++ }
  :: record[head] == withdrawn -> violate()
  :: record[head] == withPorts && next == withdrawn -> head = head + 2
  :: record[head] == withPorts && next != withdrawn && hasPacket -> takePacket()
  :: record[head] == withPorts && next == none && !hasPacket -> waits = true
  :: record[head] == withPorts && next != none && next != withdrawn && !hasPacket ->
     /* Something follows, so the packet was sent before this look at the socket, or never. */
     if
     :: nempty(socket) -> takePacket()
     :: empty(socket) -> violate()
     fi
  :: record[head] == none ->
     waits = true;
#ifndef EMPTIED_WITHOUT_PEEKING
     if
     :: packetsMayWait ->
        packetsMayWait = false;
        hasPacket = nempty(socket); /* MSG_PEEK, and then the lane once more */
        if
        :: hasPacket && record[head] == none -> violate()
        :: hasPacket && record[head] != none -> packetsMayWait = true; waits = false
        :: else -> skip
        fi
     :: else -> skip
     fi
#endif
  fi
}

/* A thread in receive(), or the loop's turn, which is the same here. */
proctype Reader() {
  byte content, post, next;
  bool waits, hasPacket;
end:
  do
  :: lock();
     if
     :: isClosed -> unlock(); break
     :: else -> skip
     fi;
     look();
     if
     :: !waits || isClosed -> unlock()
     :: waits && !isClosed ->
#ifdef INCOMPLETE_MESSAGE_WAITS
        if
        :: isGone && record[head] == none -> isClosed = true
        :: isGone && record[head] != none -> skip
        :: !isGone -> skip
        fi;
#else
        if
        :: isGone -> isClosed = true /* a message without its packet was never posted */
        :: else -> skip
        fi;
#endif
        if
        :: isClosed -> unlock()
        :: !isClosed ->
           isAsleep = true; /* announces, and looks again: a message that waits for its packet is none */
           look();
           if
           :: !waits || isClosed -> isAsleep = false
           :: else -> skip
           fi;
           unlock();
endAsleep:
           !isAsleep
        fi
     fi
  od
}

/* ready, on the loop. */
proctype Loop() {
  bool hasPacket;
end:
  do
  :: atomic { isReadable && !isClosed -> isReadable = false };
     lock();
#ifndef UNANNOUNCED_PACKETS_WAIT
#ifdef LANE_BEFORE_PACKET
     if
     :: record[head] == none -> hasPacket = nempty(socket)
     :: else -> packetsMayWait = true; hasPacket = false
     fi;
     if
     :: hasPacket -> violate()
     :: else -> skip
     fi;
#else
     hasPacket = nempty(socket);
     if
     :: hasPacket && record[head] == none -> violate()
     :: hasPacket && record[head] != none -> packetsMayWait = true /* the reader looks again when it has read all */
     :: !hasPacket -> skip
     fi;
#endif
#endif
     hasPacket = false;
     unlock();
#ifndef PACKET_WITHOUT_RINGING
     isAsleep = false /* the private word: whoever sent it may never ring for what lies before it */
#endif
  :: atomic { IS_HUNG_UP && !isGone && !isClosed -> skip };
     lock();
     isGone = true;
     unlock();
     isAsleep = false /* the private word: a local event */
  od
}

/* When nothing happens any more. */
proctype Observer() {
  timeout ->
#ifdef HOSTILE
  /* Whatever it left in the queue, the near end knows that it is gone. */
  assert(isClosed)
#else
  assert(isHeld -> (isDone && delivered == returned && !isClosed) : (isClosed && delivered >= returned))
#endif
}

init {
  atomic {
    run FarEnd();
#ifndef HOSTILE
    run Killer();
#endif
    run Reader();
    run Loop();
    run Observer()
  }
}
