#ifndef CSUPPORT_RING_LAYOUT_H
#define CSUPPORT_RING_LAYOUT_H

// What both processes of a channel map: the channel's first page, and the header word of a record.
//
//   0x000  identity     128 B   written once by the creator, before anyone else can see the memory
//   0x080  lane 0       384 B   end 0 posts, end 1 receives
//          +0x000 producer  128 B   written by the producer
//          +0x080 consumer  128 B   written by the consumer
//          +0x100 doorbells 128 B   written by both
//   0x200  lane 1       384 B   end 1 posts, end 0 receives
//   0x380  (unused)     128 B
//   0x400  lane 0 data          initial capacity
//          lane 1 data          initial capacity
//
// Fields are grouped by writer; a group has two cache lines to itself because the adjacent-line prefetcher pulls
// lines in pairs. Lanes that outgrow their initial data go on elsewhere in the same file: see the link record.
//
// No struct here is ever accessed as a whole or by plain loads: Swift reaches each word by its asserted offset,
// with an atomic access.

#include <stddef.h>
#include <stdint.h>

#define CSUPPORT_GROUP_BYTES 128

struct csupport_channel_identity {
  uint64_t magic;
  uint32_t layout_version;
  uint32_t reserved;
  uint64_t lane_capacity_bytes;  // initial capacity of each lane's data
  uint8_t unused[CSUPPORT_GROUP_BYTES - 24];
};

struct csupport_lane_producer {
  uint64_t posted_bytes;     // position up to which records were committed, for inspection only; may lag
  uint32_t is_closed;        // 1: the producer closed this end itself; 2: the end is in a message; 0: else, or it vanished
  uint8_t unused[CSUPPORT_GROUP_BYTES - 12];
};

struct csupport_lane_consumer {
  uint64_t released_bytes;   // "head": position up to which the producer may overwrite
  uint8_t unused[CSUPPORT_GROUP_BYTES - 8];
};

struct csupport_lane_doorbells {
  uint32_t message;          // what the consumer is doing: see Doorbell.swift
  uint32_t space;            // the same for a producer that waits for space
  uint8_t unused[CSUPPORT_GROUP_BYTES - 8];
};

struct csupport_lane {
  struct csupport_lane_producer producer;
  struct csupport_lane_consumer consumer;
  struct csupport_lane_doorbells doorbells;
};

struct csupport_channel_header {
  struct csupport_channel_identity identity;
  struct csupport_lane lanes[2];
  uint8_t unused[CSUPPORT_GROUP_BYTES];
};

enum {
  CSUPPORT_IDENTITY_MAGIC = offsetof(struct csupport_channel_identity, magic),
  CSUPPORT_IDENTITY_VERSION = offsetof(struct csupport_channel_identity, layout_version),
  CSUPPORT_IDENTITY_LANE_CAPACITY = offsetof(struct csupport_channel_identity, lane_capacity_bytes),
  CSUPPORT_LANES = offsetof(struct csupport_channel_header, lanes),
  CSUPPORT_LANE_BYTES = sizeof(struct csupport_lane),
  CSUPPORT_LANE_POSTED = offsetof(struct csupport_lane, producer.posted_bytes),
  CSUPPORT_LANE_IS_CLOSED = offsetof(struct csupport_lane, producer.is_closed),
  CSUPPORT_LANE_RELEASED = offsetof(struct csupport_lane, consumer.released_bytes),
  CSUPPORT_LANE_MESSAGE_DOORBELL = offsetof(struct csupport_lane, doorbells.message),
  CSUPPORT_LANE_SPACE_DOORBELL = offsetof(struct csupport_lane, doorbells.space),
  CSUPPORT_CHANNEL_HEADER_BYTES = sizeof(struct csupport_channel_header),
  /// What a doorbell says of a side that sleeps on its word: Doorbell.asleepOnFutex.
  CSUPPORT_DOORBELL_ASLEEP = 1,
};

_Static_assert(sizeof(struct csupport_channel_identity) == 128, "identity group");
_Static_assert(sizeof(struct csupport_lane_producer) == 128, "producer group");
_Static_assert(sizeof(struct csupport_lane_consumer) == 128, "consumer group");
_Static_assert(sizeof(struct csupport_lane_doorbells) == 128, "doorbell group");
_Static_assert(sizeof(struct csupport_lane) == 0x180, "lane");
_Static_assert(sizeof(struct csupport_channel_header) == 0x400 + 0x000, "header");
_Static_assert(CSUPPORT_IDENTITY_MAGIC == 0x00, "wire offset");
_Static_assert(CSUPPORT_IDENTITY_VERSION == 0x08, "wire offset");
_Static_assert(CSUPPORT_IDENTITY_LANE_CAPACITY == 0x10, "wire offset");
_Static_assert(CSUPPORT_LANES == 0x80, "wire offset");
_Static_assert(CSUPPORT_LANE_POSTED == 0x000, "wire offset");
_Static_assert(CSUPPORT_LANE_IS_CLOSED == 0x008, "wire offset");
_Static_assert(CSUPPORT_LANE_RELEASED == 0x080, "wire offset");
_Static_assert(CSUPPORT_LANE_MESSAGE_DOORBELL == 0x100, "wire offset");
_Static_assert(CSUPPORT_LANE_SPACE_DOORBELL == 0x104, "wire offset");

#endif
