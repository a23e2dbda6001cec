/* One lane: committing and reading records. See README.md for what is abstracted.
 *
 * RingProducer.swift, RingProducer+Grow.swift, RingConsumer.swift, RingConsumer+Next.swift. A word of the model is eight
 * bytes of the ring. A link is two words here (three in the code), and the reserve is the least that suffices for that.
 *
 * Own: commitOrWithhold.
 */

#ifndef MESSAGES
#define MESSAGES 5
#endif
#ifndef GROWTHS
#define GROWTHS 1
#endif
#ifndef CAPACITY
#define CAPACITY 8
#endif
#ifndef LARGEST_PAYLOAD
#define LARGEST_PAYLOAD (CAPACITY / 4 - 1) /* largestRecordPayload */
#endif
#ifdef NO_RESERVE
#define RESERVED 0
#else
#define RESERVED 2 /* reservedBytes */
#endif

#define MEMORY ((GROWTHS + 1) * CAPACITY)
#define BUFFERS 1
#include "store_buffer.inc"

#define PRODUCER 0

/* A header: kind in the low two bits. A message has its length and, for checking only, its number. */
#define MESSAGE 1
#define PAD 2
#define LINK 3
#define HEADER_MESSAGE(length, number) (MESSAGE + ((length) << 2) + ((number) << 4))
#define HEADER_PAD(length) (PAD + ((length) << 2))
#define HEADER_LINK LINK
#define KIND(header) ((header) & 3)
#define MESSAGE_LENGTH(header) (((header) >> 2) & 3)
#define MESSAGE_NUMBER(header) (((header) >> 4) & 7)
#define PAD_LENGTH(header) ((header) >> 2)
/* Anything that is not a header has the top bit, so that taking it for one is noticed. */
#define PAYLOAD(number, index) (128 + ((number) << 2) + (index))
#define LINK_WORD(segment) (240 + (segment))
#define GARBAGE 255

#define RELEASE 1
#ifdef RELAXED_COMMIT
#define COMMIT 0
#else
#define COMMIT 1
#endif

byte released; /* the consumer's word; its stores need no buffer: one that is late is one that came later */

/* ---------------------------------------------------------------------------------------------------------------------- */

#define END CAPACITY
#define POSITION (lapPosition + cursor)
#define WHERE(offset) (segment * CAPACITY + (offset))
#define OLDEST (seenReleased > segmentPosition -> seenReleased : segmentPosition)
#define FREE (CAPACITY - RESERVED - (POSITION - OLDEST))

inline publish() {
#ifdef TERMINATOR_AFTER_COMMIT
  commitOrWithhold(cursor, header);
  store(PRODUCER, WHERE(cursor + 1 + length), 0, 0)
#else
  store(PRODUCER, WHERE(cursor + 1 + length), 0, 0); /* terminate */
  commitOrWithhold(cursor, header)
#endif
}

inline commitOrWithhold(offset, what) {
  if
  :: !isBatching -> store(PRODUCER, WHERE(offset), what, COMMIT) /* commit */
  :: isBatching && withheldHeader == 0 -> /* withhold */
#ifdef BATCH_COMMITTED_FIRST
     withheldHeader = 1; /* as if there were something to come */
     store(PRODUCER, WHERE(offset), what, COMMIT)
#else
     d_step { withheldAddress = WHERE(offset); withheldHeader = what }
#endif
  :: isBatching && withheldHeader != 0 -> store(PRODUCER, WHERE(offset), what, 0)
  fi
}

inline endBatch() {
  isBatching = false;
#ifndef BATCH_COMMITTED_FIRST
  if
  :: withheldHeader != 0 -> store(PRODUCER, withheldAddress, withheldHeader, COMMIT)
  :: else -> skip
  fi;
#endif
  d_step { withheldHeader = 0; withheldAddress = 0 }
}

inline wrap() {
#ifndef NO_WRAP_TERMINATOR
  store(PRODUCER, WHERE(0), 0, 0);
#endif
  commitOrWithhold(cursor, HEADER_PAD(END - cursor - 1));
  d_step { lapPosition = lapPosition + CAPACITY; cursor = 0 }
}

inline grow() {
#ifndef LINK_BEFORE_SEGMENT
  store(PRODUCER, (segment + 1) * CAPACITY, 0, 0); /* terminate at the new segment's start */
#endif
  if
  :: END - cursor < 2 -> wrap()
  :: else -> skip
  fi;
  store(PRODUCER, WHERE(cursor + 1), LINK_WORD(segment + 1), 0);
  store(PRODUCER, WHERE(cursor), HEADER_LINK, COMMIT);
#ifdef LINK_BEFORE_SEGMENT
  store(PRODUCER, (segment + 1) * CAPACITY, 0, 0);
#endif
  d_step {
    segmentPosition = POSITION + 2;
    lapPosition = segmentPosition;
    segment++;
    cursor = 0;
    free = FREE;
    limit = (free < END -> free : END)
  }
}

proctype Producer() {
  byte segment, cursor, limit = CAPACITY - RESERVED, sent, length, i;
  byte lapPosition, segmentPosition, seenReleased;
  byte withheldAddress, withheldHeader, header; /* withheldHeader 0: none */
  bool isBatching, hasRoom;
  int free;

  do
  :: sent == MESSAGES -> break
  :: sent < MESSAGES ->
     sent++;
     if
     :: length = 0
     :: length = LARGEST_PAYLOAD
     fi;
     if
     :: isBatching = true /* beginBatch, or go on with one */
     :: skip
     fi;

     /* hasRoom, makeRoom, waitForSpace, grow */
     do
     :: d_step {
          hasRoom = (length + 2 <= limit - cursor);
          i = 0
        };
        if
        :: hasRoom -> break
        :: else -> skip
        fi;
        d_step { /* makeRoom: loadReleased, recomputeLimit */
          assert(released >= seenReleased && released <= POSITION);
          seenReleased = released;
          free = FREE;
          limit = (free <= 0 -> cursor : cursor + (free < END - cursor -> free : END - cursor));
          hasRoom = (length + 2 <= limit - cursor)
        };
        if
        :: hasRoom -> break
        :: !hasRoom && length + 2 > END - cursor && FREE >= END - cursor + length + 2 ->
           wrap();
           d_step {
             free = FREE;
             limit = (free <= 0 -> cursor : cursor + (free < END - cursor -> free : END - cursor))
           }
        :: else ->
           /* No room. A batch is ended first; then wait for the consumer, or grow. */
           endBatch();
           if
           :: released != seenReleased -> skip
           :: segment < GROWTHS -> grow()
           fi
        fi
     od;

     /* fill, publish */
     header = HEADER_MESSAGE(length, sent);
#ifdef COMMIT_BEFORE_PAYLOAD
     publish();
#endif
     do
     :: i < length -> store(PRODUCER, WHERE(cursor + 1 + i), PAYLOAD(sent, i), 0); i++
     :: else -> i = 0; break
     od;
#ifndef COMMIT_BEFORE_PAYLOAD
     publish();
#endif
     cursor = cursor + 1 + length;
     header = 0;
     if
     :: isBatching -> endBatch()
     :: skip /* a batch goes on */
     fi
  od;
  endBatch()
}

/* ---------------------------------------------------------------------------------------------------------------------- */

inline release() { released = lapPosition + cursor }

proctype Consumer() {
  byte segment, cursor, lapPosition, got, header, i, word;
  do
  :: got == MESSAGES -> break
  :: got < MESSAGES ->
#ifdef HEADER_WITHOUT_ACQUIRE
     /* The processor has fetched the payload's first word early. */
     word = memory[WHERE((cursor + 1 < END -> cursor + 1 : 0))];
#endif
     header = memory[WHERE(cursor)];
     if
     :: header == 0 -> /* prepareToSleep releases what was read; then something comes */
        release();
        memory[WHERE(cursor)] != 0
     :: header != 0 && KIND(header) == MESSAGE ->
        assert(header < 128);
        assert(MESSAGE_NUMBER(header) == got + 1); /* nothing lost, doubled or out of order */
        assert(MESSAGE_LENGTH(header) + 1 <= END - cursor - 1);
#ifdef RELEASE_BEFORE_READ
        released = lapPosition + cursor + 1 + MESSAGE_LENGTH(header);
#endif
        do
        :: i < MESSAGE_LENGTH(header) ->
#ifdef HEADER_WITHOUT_ACQUIRE
           if
           :: i > 0 -> word = memory[WHERE(cursor + 1 + i)]
           :: else -> skip
           fi;
#else
           word = memory[WHERE(cursor + 1 + i)];
#endif
           assert(word == PAYLOAD(got + 1, i)); /* whole, and of this message */
           i++
        :: else ->
           d_step { cursor = cursor + 1 + MESSAGE_LENGTH(header); got++; header = 0; i = 0; word = 0 };
           break
        od;
        if
        :: release() /* advance: enough was read */
        :: skip
        fi
     :: header != 0 && KIND(header) == PAD ->
        assert(header < 128 && PAD_LENGTH(header) == END - cursor - 1);
        d_step { lapPosition = lapPosition + CAPACITY; cursor = 0; header = 0 }
     :: header != 0 && KIND(header) == LINK ->
        assert(header == HEADER_LINK && cursor + 2 <= END);
        word = memory[WHERE(cursor + 1)];
        assert(word == LINK_WORD(segment + 1));
        d_step { lapPosition = lapPosition + cursor + 2; cursor = 0; segment++; header = 0; word = 0 };
        release() /* follow */
     :: else -> assert(false) /* no record begins here */
     fi
  od
}

init {
  byte i = CAPACITY;
  atomic {
    do /* fresh segments are zero in truth; the protocol does not rely on it */
    :: i < MEMORY -> memory[i] = GARBAGE; i++
    :: else -> break
    od;
    run Drain(PRODUCER);
    run Producer();
    run Consumer()
  }
}
