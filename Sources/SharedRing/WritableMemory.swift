import CSupport

/// Memory that only this process has, to be written before it is frozen or shared.
///
/// One thread at a time.
@safe
package struct WritableMemory: ~Copyable, Sendable {
  // In this order: what is mapped is given back first.
  private var mapping: BufferMapping?
  private let file: MemoryFile
  package let byteCount: Int

  /// Makes memory of so many bytes, all zero. All of it is there: a system that has not so much says so now, and not by a
  /// signal later.
  package init(byteCount: Int, wantsHugePages: Bool) throws(SystemError) {
    let file = MemoryFile(owning: try check("memfd_create") { csupport_buffer_create(UInt64(byteCount)) })
    let mapping = try BufferMapping(file.fd, byteCount, CSUPPORT_BUFFER_FOR_ITS_MAKER)
    try check("madvise") { unsafe csupport_buffer_populate(file.fd, mapping.address, byteCount, wantsHugePages) }
    self.mapping = consume mapping
    self.file = file
    self.byteCount = byteCount
  }

  private var address: UnsafeMutableRawPointer? {
    switch mapping {
    case .some(let mapping): unsafe mapping.address
    case .none: nil
    }
  }

  /// The bytes, for as long as this is neither sealed nor gone. `nil`: see ``isMapped``.
  @unsafe package var mutableBytes: UnsafeMutableRawBufferPointer? {
    mutating get { unsafe address.map { unsafe UnsafeMutableRawBufferPointer(start: $0, count: byteCount) } }
  }

  /// Copies bytes in. The range has to lie within it.
  package mutating func copy(_ bytes: RawSpan, to offset: Int) {
    precondition(offset >= 0 && bytes.byteCount <= byteCount - offset, "copy beyond the buffer")
    guard let to = unsafe address else { return }
    unsafe bytes.withUnsafeBytes { source in
      if let from = source.baseAddress { unsafe csupport_copy(to + offset, from, source.count) }
    }
  }

  /// Not if it could not be mapped again after ``seal(as:)`` had failed.
  package var isMapped: Bool { unsafe address != nil }

  /// Makes this what it is for good. On failure it is as it was; or, if it cannot even be mapped again, has no bytes any more.
  package mutating func seal(as kind: BufferFile.Kind) throws(SystemError) {
    mapping = nil
    do throws(SystemError) {
      switch kind {
      case .frozen: try check("fcntl") { csupport_buffer_freeze(file.fd) }
      case .shared: try check("fcntl") { csupport_buffer_share(file.fd) }
      }
    } catch {
      mapping = try? BufferMapping(file.fd, byteCount, CSUPPORT_BUFFER_FOR_ITS_MAKER)
      throw error
    }
  }

  /// What it has been made by ``seal(as:)``.
  package consuming func sealed(as kind: BufferFile.Kind) -> BufferFile {
    BufferFile(owning: file, byteCount: byteCount, kind: kind)
  }
}
