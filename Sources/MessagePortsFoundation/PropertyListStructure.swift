import Foundation

/// Looks at a property list before Foundation does: its parsers recurse without a limit, and expand what is shared.
///
/// Whatever Foundation's encoder writes passes. Nesting beyond the limit, a container in two places, and parts of XML
/// that no encoder writes, in which tags could hide, do not.
struct PropertyListStructure {
  static let maximumDepth = 128
  let bytes: [UInt8]

  func check(_ format: PropertyListSerialization.PropertyListFormat) throws {
    let isAcceptable =
      switch format {
      case .binary: isBinary()
      case .xml: isXML()
      default: false
      }
    guard isAcceptable else {
      throw DecodingError.dataCorrupted(
        .init(
          codingPath: [], debugDescription: "The message is no property list of the format that was set, or too deep."))
    }
  }

  // MARK: Binary

  /// A tree: each container is in one place only, and not too deep.
  private func isBinary() -> Bool {
    guard bytes.count >= 40, bytes.starts(with: "bplist00".utf8) else { return false }
    let trailer = bytes.count - 32
    let (offsetBytes, referenceBytes) = (Int(bytes[trailer + 6]), Int(bytes[trailer + 7]))
    guard (1...8).contains(offsetBytes), (1...8).contains(referenceBytes),
      let count = number(at: trailer + 8, 8), let top = number(at: trailer + 16, 8),
      let table = number(at: trailer + 24, 8), table <= trailer, count <= (trailer - table) / offsetBytes, top < count
    else { return false }
    var isSeen = [Bool](repeating: false, count: count)
    var pending = [(object: top, depth: 1)]
    while let (object, depth) = pending.popLast() {
      guard let offset = number(at: table + object * offsetBytes, offsetBytes), offset < table else { return false }
      let kind = bytes[offset] >> 4
      guard kind == 0xA || kind == 0xC || kind == 0xD else { continue }
      guard !isSeen[object], depth <= Self.maximumDepth else { return false }
      isSeen[object] = true
      var (parts, start) = (Int(bytes[offset] & 0xF), offset + 1)
      if parts == 0xF {
        guard start < table, bytes[start] >> 4 == 1, bytes[start] & 0xF <= 3 else { return false }
        let size = 1 << Int(bytes[start] & 0xF)
        guard let long = number(at: start + 1, size) else { return false }
        (parts, start) = (long, start + 1 + size)
      }
      guard start <= table, parts <= table - start else { return false }
      if kind == 0xD { parts *= 2 }
      guard parts <= (table - start) / referenceBytes else { return false }
      for part in 0..<parts {
        guard let object = number(at: start + part * referenceBytes, referenceBytes), object < count else {
          return false
        }
        pending.append((object, depth + 1))
      }
    }
    return true
  }

  /// A number of this many bytes, most significant first; nil if it does not fit, or is not there.
  private func number(at offset: Int, _ byteCount: Int) -> Int? {
    guard offset >= 0, byteCount <= bytes.count, offset <= bytes.count - byteCount else { return nil }
    return Int(exactly: bytes[offset..<offset + byteCount].reduce(0 as UInt64) { $0 << 8 | UInt64($1) })
  }

  // MARK: XML

  /// UTF-8 with a declaration; no comments, sections or attributes; not too deep.
  private func isXML() -> Bool {
    guard bytes.starts(with: "<?xml version=\"1.0\" encoding=\"UTF-8\"?>".utf8), !bytes.contains(0) else {
      return false
    }
    var (depth, offset) = (0, 1)
    while let start = bytes[offset...].firstIndex(of: UInt8(ascii: "<")) {
      guard let end = bytes[start...].firstIndex(of: UInt8(ascii: ">")), end > start + 1 else { return false }
      let tag = bytes[start + 1..<end]
      offset = end + 1
      if tag.starts(with: "!DOCTYPE plist PUBLIC".utf8), depth == 0, !tag.contains(UInt8(ascii: "[")) { continue }
      guard let first = tag.first, first != UInt8(ascii: "!"), first != UInt8(ascii: "?") else { return false }
      if first == UInt8(ascii: "/") {
        depth -= 1
      } else if tag.last != UInt8(ascii: "/") {
        let isRoot = depth == 0 && tag.elementsEqual("plist version=\"1.0\"".utf8)
        guard isRoot || !tag.contains(where: { $0 == UInt8(ascii: "\"") || $0 == UInt8(ascii: "'") }) else {
          return false
        }
        depth += 1
        // The root element, and the text of a value, are one more each.
        guard depth <= Self.maximumDepth + 2 else { return false }
      }
    }
    return true
  }
}
