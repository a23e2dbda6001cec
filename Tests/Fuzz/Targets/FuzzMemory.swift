import CSupport
import Glibc
@testable import SharedRing

/// A channel's memory that the peer can write to, made afresh for each run without asking the kernel for a new file.
@safe
final class FuzzMemory: @unchecked Sendable {  // each target has its own, and runs on one thread
  let memory: ChannelMemory
  /// The peer's own mapping of the first page, and of the first pages of lane 0's region.
  private let page: Mapping
  private let region: Mapping
  static let regionPages = 8
  static let pageBytes = RingLayout.pageBytes
  static let regionBytes = regionPages * pageBytes
  /// There may be something in the region that is not zero.
  private var isRegionUsed = true

  init() {
    do {
      memory = try ChannelMemory.make(laneCapacity: 0, backing: .memfd)
      let regionOffset = RingLayout.regionOffset(lane: 0)
      try check("fallocate") { [memory] in csupport_memory_reserve(memory.fd, regionOffset, UInt64(Self.regionBytes)) }
      page = try Mapping(fd: memory.fd, fileOffset: 0, byteCount: Self.pageBytes)
      region = try Mapping(fd: memory.fd, fileOffset: regionOffset, byteCount: Self.regionBytes)
    } catch {
      fatalError("no memory to fuzz with: \(error)")
    }
  }

  /// As it was when it was new. What the victim can have written into the region is behind a link that the peer put there.
  /// (Or in a segment that it made itself; but then it is a producer, and reads nothing there.)
  func reset() {
    unsafe memset(page.address + RingLayout.laneOffset(0), 0, Self.pageBytes - RingLayout.laneOffset(0))
    if isRegionUsed { unsafe memset(region.address, 0, region.byteCount) }
    isRegionUsed = false
  }

  /// Makes the file long enough for lane 0's region to have `byteCount` bytes: what a victim whose lane grows can do
  /// must not depend on an earlier run.
  func extendRegion(to byteCount: UInt64) {
    let reserved = csupport_memory_reserve(memory.fd, RingLayout.regionOffset(lane: 0), byteCount)
    guard reserved >= 0 else { fatalError("no memory to fuzz with: \(reserved)") }
  }

  /// Where lane 0's initial data begins, as an offset in the page.
  var data: Int { RingLayout.initialDataOffset(lane: 0, capacity: memory.laneCapacity) }

  /// Writes a word into the page. Any offset: it is made to fit.
  func store(_ value: UInt64, at offset: Int) {
    let offset = offset % (Self.pageBytes - 7) & ~7
    unsafe RecordHeader(rawValue: value).commit(at: page.address + offset)
  }

  /// The same in the region.
  func storeInRegion(_ value: UInt64, at offset: Int) {
    isRegionUsed = true
    let offset = offset % (region.byteCount - 7) & ~7
    unsafe RecordHeader(rawValue: value).commit(at: region.address + offset)
  }

  /// Makes the address sanitizer object to any access, through the victim's mapping, behind lane 0's data.
  func forbidOtherLane() {
    typealias Poison = @convention(c) (UnsafeRawPointer, Int) -> Void
    guard let symbol = unsafe dlsym(nil, "__asan_poison_memory_region") else { return }  // not under the sanitizer
    let start = data + memory.laneCapacity
    unsafe unsafeBitCast(symbol, to: Poison.self)(memory.base.address + start, Self.pageBytes - start)
  }
}
