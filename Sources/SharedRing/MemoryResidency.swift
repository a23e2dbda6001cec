import CSupport
import Glibc

/// Whether a channel's memory is there before it is touched.
public enum MemoryResidency: Int, Sendable, Hashable, Comparable, CaseIterable {
  /// The system maps a page when it is touched for the first time: a fault of a microsecond or so, once in each process.
  case onDemand
  /// Each page is mapped from the start. The system may still take it back when memory is short.
  case faultedIn
  /// The same, and the pages stay: they are locked, which counts against `RLIMIT_MEMLOCK`.
  case locked

  /// Whether the other takes more care that the memory is there.
  public static func < (one: MemoryResidency, other: MemoryResidency) -> Bool { one.rawValue < other.rawValue }
}

/// Why there is no memory as it was to be.
package enum MemoryError: Error, Hashable {
  /// So many bytes more would exceed what this process may lock.
  case lockLimit(byteCount: Int, limit: Int)
  case system(SystemError)
}

extension MemoryResidency {
  /// Makes mapped memory what this says. On failure nothing is locked that was not before.
  @unsafe func apply(to address: UnsafeMutableRawPointer, byteCount: Int) throws(MemoryError) {
    if self == .onDemand { return }
    do throws(SystemError) {
      try check("madvise") { unsafe csupport_memory_fault_in(address, byteCount) }
    } catch {
      throw .system(error)
    }
    if self == .faultedIn { return }
    var limit = UInt64.max
    while true {
      let result = unsafe csupport_memory_lock(address, byteCount, &limit)
      if result >= 0 { return }
      if limit != .max { throw .lockLimit(byteCount: byteCount, limit: Int(clamping: limit)) }
      if result != -EINTR { throw .system(SystemError(call: "mlock", errno: -result)) }
    }
  }
}

extension Mapping {
  func makeResident(_ residency: MemoryResidency) throws(MemoryError) {
    try unsafe residency.apply(to: address, byteCount: byteCount)
  }

  func unlock() { _ = unsafe csupport_memory_unlock(address, byteCount) }
}

extension Segment {
  /// Makes the segment in which a side goes on what the rest of the channel's memory is; the initial one is part of that, and
  /// what is only there to hold an overflow is given back soon.
  func makeResident(_ residency: MemoryResidency) throws(MemoryError) {
    if isInitial || capacity > RingLayout.residentSegmentBytes { return }
    try unsafe residency.apply(to: start, byteCount: capacity)
  }

  func unlock() { if !isInitial { _ = unsafe csupport_memory_unlock(start, capacity) } }
}

extension RingProducer {
  /// See ``ChannelMemory/makeResident(_:)``, of the segment in which this goes on.
  package borrowing func makeSegmentResident(_ residency: MemoryResidency) throws(MemoryError) {
    if isAttached { try segment.makeResident(residency) }
  }

  /// The opposite of being locked.
  package borrowing func unlockSegment() { if isAttached { segment.unlock() } }
}

extension RingConsumer {
  /// See ``ChannelMemory/makeResident(_:)``, of the segment in which this goes on.
  package borrowing func makeSegmentResident(_ residency: MemoryResidency) throws(MemoryError) {
    if isAttached { try segment.makeResident(residency) }
  }
}
