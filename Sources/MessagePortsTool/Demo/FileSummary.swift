import Foundation

/// What the worker finds out about a file.
struct FileSummary: Codable, Hashable, Sendable {
  var lines = 0
  var words = 0
  var bytes = 0
  /// SHA-256 in hexadecimal digits; `nil` where there is no library for it.
  var digest: String?

  /// Reads the file and works it out.
  init(ofFile path: String) throws {
    let content = [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))
    self.init(of: content.span)
    digest = Digest.sha256(of: content)
  }

  /// Counts as `wc` does: line feeds, and runs of bytes that are not white space.
  init(of content: Span<UInt8>) {
    bytes = content.count
    var isInWord = false
    for index in content.indices {
      switch content[index] {
      case 0x0A:
        lines += 1
        isInWord = false
      case 0x20, 0x09, 0x0B, 0x0C, 0x0D: isInWord = false
      default:
        if !isInWord { words += 1 }
        isInWord = true
      }
    }
  }

  init(lines: Int, words: Int, bytes: Int, digest: String?) {
    (self.lines, self.words, self.bytes, self.digest) = (lines, words, bytes, digest)
  }
}
