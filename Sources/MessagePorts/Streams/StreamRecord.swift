/// What is posted on a stream's channel, in either direction.
///
///     | kind: 1 byte | element: 4 bytes, if it comes in parts | body |
///
/// An element that is larger than what may wait unread comes in parts, as long as they are not the last all under the same
/// number. Elements of concurrent senders may lie between them.
struct StreamRecord {
  enum Kind: UInt8, CaseIterable, Sendable {
    /// A whole element.
    case element = 0
    case part = 1
    case lastPart = 2
    /// Nothing more will be sent.
    case end = 3
    /// The same, because something went wrong: a ``RequestFailure``.
    case failure = 4

    fileprivate var headerBytes: Int { self == .part || self == .lastPart ? 5 : 1 }
  }

  let kind: Kind
  /// 0 unless it is a part.
  let element: UInt32
  let body: MessageEvent

  /// The most that may wait unread in one direction of a stream: part of the protocol. Whoever writes more, waits.
  static let windowBytes = 512 << 10
  /// What an element may have without being sent in parts; the parts are as large.
  static let largestBody = 64 << 10

  static func make(_ kind: Kind, element: UInt32 = 0, _ bytes: RawSpan) -> [UInt8] {
    let header = kind.headerBytes
    return unsafe [UInt8](unsafeUninitializedCapacity: header + bytes.byteCount) { buffer, count in
      unsafe buffer[0] = kind.rawValue
      for index in 1..<header { unsafe buffer[index] = UInt8(truncatingIfNeeded: element >> ((index - 1) * 8)) }
      unsafe bytes.withUnsafeBytes { source in
        unsafe UnsafeMutableRawBufferPointer(rebasing: UnsafeMutableRawBufferPointer(buffer)[header...])
          .copyMemory(from: source)
      }
      count = header + bytes.byteCount
    }
  }

  /// `nil`: no stream has such a record.
  static func open(_ event: MessageEvent) -> StreamRecord? {
    let opened = event.withBytes { bytes -> (Kind, UInt32)? in
      guard bytes.byteCount >= 1, let kind = Kind(rawValue: unsafe bytes.unsafeLoad(as: UInt8.self)),
        bytes.byteCount >= kind.headerBytes
      else { return nil }
      if kind == .end, bytes.byteCount > 1 { return nil }
      let element =
        kind.headerBytes == 1
        ? 0 : unsafe bytes.unsafeLoadUnaligned(fromByteOffset: 1, as: UInt32.self).littleEndian
      return (kind, element)
    }
    return opened.map { StreamRecord(kind: $0.0, element: $0.1, body: event.droppingFirst($0.0.headerBytes)) }
  }
}

/// Elements that have come in part. A value of whoever reads.
struct StreamParts {
  private var parts: [UInt32: [UInt8]] = [:]
  private var byteCount = 0
  private let limitBytes: Int

  /// So many senders at once are more than any stream needs.
  private static let mostElements = 64

  init(limitBytes: Int) { self.limitBytes = limitBytes }

  /// `false`: no stream sends so much.
  mutating func add(_ record: StreamRecord) -> Bool {
    guard parts[record.element] != nil || parts.count < Self.mostElements,
      record.body.byteCount <= limitBytes - byteCount
    else { return false }
    byteCount += record.body.byteCount
    record.body.withBytes { bytes in
      unsafe bytes.withUnsafeBytes { unsafe parts[record.element, default: []].append(contentsOf: $0) }
    }
    return true
  }

  /// All of it, once the last part was added.
  mutating func take(_ element: UInt32) -> [UInt8] {
    let bytes = parts.removeValue(forKey: element) ?? []
    byteCount -= bytes.count
    return bytes
  }
}
