/// How a lane grows when its consumer does not keep up.
package struct GrowthPolicy: Sendable, Hashable {
  /// A lane that traffic has made grow up to here stays so. What exceeds it only holds unread data, and is given back
  /// once that was read.
  package var steadyCapacity = RingLayout.residentSegmentBytes
  /// The first bigger segment: a smaller one is not worth making.
  package var firstGrownCapacity = 64 << 10
  /// The most that may wait unread; `nil`: no limit.
  package var unreadLimitBytes: Int?

  /// Whether to give a busy consumer a few microseconds before asking for memory.
  package var waitsForConsumer = true

  package init(unreadLimitBytes: Int? = nil) { self.unreadLimitBytes = unreadLimitBytes }

  /// Messages larger than this go in fragments of this size, so that a small warm ring carries a message of any size
  /// while the consumer keeps up: fresh memory costs several microseconds a page.
  package var fragmentBytes: Int { steadyCapacity / 8 }
}
