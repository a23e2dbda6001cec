import Foundation

/// SHA-256 by OpenSSL's libcrypto, which nearly every system has: looked up when first needed. The tool builds and runs
/// without it, but makes no digests.
enum Digest {
  /// `unsigned char *SHA256(const unsigned char *data, size_t count, unsigned char *digest)`
  private typealias Function =
    @convention(c) (
      UnsafePointer<UInt8>?, Int, UnsafeMutablePointer<UInt8>?
    ) -> UnsafeMutablePointer<UInt8>?

  private static let function: Function? = {
    for name in ["libcrypto.so.3", "libcrypto.so.1.1"] {
      guard let library = unsafe dlopen(name, RTLD_NOW), let symbol = unsafe dlsym(library, "SHA256") else { continue }
      return unsafe unsafeBitCast(symbol, to: Function.self)
    }
    return nil
  }()

  /// `nil` if this system has no libcrypto.
  static func sha256(of bytes: [UInt8]) -> String? {
    guard let function = unsafe function else { return nil }
    var digest = [UInt8](repeating: 0, count: 32)
    _ = unsafe function(bytes, bytes.count, &digest)
    return digest.map { String(format: "%02x", $0) }.joined()
  }
}
