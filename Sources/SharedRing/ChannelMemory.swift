import CSupport
import Synchronization

/// A channel's file and the mapping of its first pages, with the header and both lanes' initial data.
///
/// Thread safety: immutable, but for one atomic; what the memory holds is the business of the lanes' producers and consumers.
@safe
package final class ChannelMemory: @unchecked Sendable {  // immutable or atomic, and the mapping lives as long as this
  /// The file; whoever is sent it can map all of the channel.
  package let fd: CInt
  package let laneCapacity: Int
  /// Which file it is, as the kernel says: two ends are of one channel exactly if theirs are equal.
  package let identity: Identity
  let base: Mapping
  /// How the mappings of this process are to be: `MemoryResidency`. Relaxed: of a segment that is mapped meanwhile, its owner
  /// finds out under the lane's lock.
  private let wanted = Atomic<Int>(MemoryResidency.onDemand.rawValue)

  package struct Identity: Hashable, Sendable {
    let device: UInt64
    let inode: UInt64
  }

  private init(owning fd: CInt, base: consuming Mapping, laneCapacity: Int, identity: Identity) {
    self.fd = fd
    self.base = base
    self.laneCapacity = laneCapacity
    self.identity = identity
  }

  deinit { csupport_memory_close(fd) }

  /// Makes a new channel's memory: two lanes of at least `laneCapacity` bytes each, nothing in them.
  package static func make(
    laneCapacity: Int, backing: MemoryBacking, residency: MemoryResidency
  ) throws(MemoryError) -> ChannelMemory {
    let memory: ChannelMemory
    do throws(SystemError) {
      memory = try make(laneCapacity: laneCapacity, backing: backing)
    } catch {
      throw .system(error)
    }
    try memory.makeResident(residency)
    return memory
  }

  /// The same, on demand.
  package static func make(laneCapacity requested: Int, backing: MemoryBacking) throws(SystemError) -> ChannelMemory {
    let capacity = RingLayout.roundedCapacity(requested)
    let baseBytes = RingLayout.baseBytes(capacity: capacity)
    let fd =
      switch backing {
      case .memfd: try makeReserved(byteCount: baseBytes)
      case .posixSharedMemory: try check("shm_open") { csupport_memory_create_unlinked(UInt64(baseBytes)) }
      }
    do throws(SystemError) {
      let facts = try fileFacts(fd)
      let base = try Mapping(fd: fd, fileOffset: 0, byteCount: baseBytes)
      let header = unsafe base.address
      // Nobody else can see the memory yet: plain stores.
      unsafe header.storeBytes(of: RingLayout.magic, toByteOffset: CSUPPORT_IDENTITY_MAGIC, as: UInt64.self)
      unsafe header.storeBytes(
        of: RingLayout.version, toByteOffset: CSUPPORT_IDENTITY_VERSION, as: UInt32.self)
      unsafe header.storeBytes(
        of: UInt64(capacity), toByteOffset: CSUPPORT_IDENTITY_LANE_CAPACITY, as: UInt64.self)
      return ChannelMemory(
        owning: fd, base: base, laneCapacity: capacity, identity: Identity(device: facts.device, inode: facts.inode))
    } catch {
      _ = csupport_close(fd)
      throw error
    }
  }

  /// Sealed memory, whose pages are there: a system that has none left says so now, and not by SIGBUS at the first store.
  private static func makeReserved(byteCount: Int) throws(SystemError) -> CInt {
    let fd = try check("memfd_create") { csupport_memory_create_sealed(UInt64(byteCount)) }
    do throws(SystemError) {
      try check("fallocate") { csupport_memory_reserve(fd, 0, UInt64(byteCount)) }
      return fd
    } catch {
      _ = csupport_close(fd)
      throw error
    }
  }

  /// Takes over `fd`, which a peer sent, after finding out from the kernel what it is. On failure it is gone. Never
  /// blocks.
  package static func attach(owning fd: CInt, trustingUnsealed: Bool) throws(AttachError) -> ChannelMemory {
    let memory = try InspectedMemory(owning: fd, trustingUnsealed: trustingUnsealed)
    guard memory.byteCount >= UInt64(RingLayout.pageBytes) else { throw .tooShort(byteCount: memory.byteCount) }
    // One page is there for certain; what it says decides how much more to map.
    let first = try memory.map(byteCount: RingLayout.pageBytes)
    let words = unsafe SharedWords(base: first.address)
    let (magic, version, capacity) = words.loadIdentity()
    guard magic == RingLayout.magic else { throw .notAChannel }
    guard version == RingLayout.version else { throw .versionDiffers(theirs: version) }
    guard RingLayout.isPlausibleCapacity(capacity) else { throw .implausibleCapacity(capacity) }
    let baseBytes = RingLayout.baseBytes(capacity: Int(capacity))
    guard memory.byteCount >= UInt64(baseBytes) else { throw .tooShort(byteCount: memory.byteCount) }
    let base = baseBytes == RingLayout.pageBytes ? first : try memory.map(byteCount: baseBytes)
    let identity = memory.identity
    return ChannelMemory(owning: memory.take(), base: base, laneCapacity: Int(capacity), identity: identity)
  }

  /// What was asked for in this process.
  package var residency: MemoryResidency { MemoryResidency(rawValue: wanted.load(ordering: .relaxed)) ?? .onDemand }

  /// Makes this process's mapping of the first pages, and those of segments that come from now on, resident: more so than they are,
  /// never less. On failure all is as it was. Another process that has the memory decides for itself.
  package func makeResident(_ residency: MemoryResidency) throws(MemoryError) {
    guard residency > self.residency else { return }
    try base.makeResident(residency)
    wanted.store(residency.rawValue, ordering: .relaxed)
  }

  /// The opposite, for whoever could not have the rest.
  package func makeResidentNoMore(than residency: MemoryResidency) {
    wanted.store(residency.rawValue, ordering: .relaxed)
    if residency < .locked { base.unlock() }
  }

  /// Maps a segment in a lane's region. One that the lane keeps is treated as the first pages are if the system lets: whoever posts,
  /// or receives, is not to fail because of that.
  func mapSegment(at offset: UInt64, byteCount: Int) throws(SystemError) -> Mapping {
    let mapping = try Mapping(fd: fd, fileOffset: offset, byteCount: byteCount)
    if byteCount <= RingLayout.residentSegmentBytes { try? mapping.makeResident(residency) }
    return mapping
  }

  package static func fileFacts(_ fd: CInt) throws(SystemError) -> csupport_file_facts {
    var facts = csupport_file_facts()
    try checkOnce("fstat", unsafe csupport_file_facts(fd, &facts))
    return facts
  }

  package func words(lane: Int) -> SharedWords { unsafe SharedWords(base: base.address + RingLayout.laneOffset(lane)) }

  /// The lane's initial data, inside the base mapping.
  @unsafe func initialData(lane: Int) -> UnsafeMutableRawPointer {
    unsafe base.address + RingLayout.initialDataOffset(lane: lane, capacity: laneCapacity)
  }
}
