import Glibc

/// A kernel's release as `uname -r` prints it: `6.12.48+deb13-amd64`, `6.8.0-94-generic`, `6.17.0-rc3`.
package struct KernelRelease: Hashable, Sendable {
  package let major: Int
  package let minor: Int
  /// 0 where there is none. Ubuntu and Red Hat leave it at 0 and count their own builds in ``suffix``.
  package let patch: Int
  /// What follows the numbers, as the distribution writes it: `-94-generic`.
  package let suffix: String

  /// `nil` unless the text begins with a major and a minor number.
  package init?(_ text: String) {
    var rest = Substring(text)
    guard let major = Self.takeNumber(from: &rest), Self.takePoint(from: &rest),
      let minor = Self.takeNumber(from: &rest)
    else { return nil }
    (self.major, self.minor) = (major, minor)
    var afterPoint = rest
    if Self.takePoint(from: &afterPoint), let patch = Self.takeNumber(from: &afterPoint) {
      (self.patch, suffix) = (patch, String(afterPoint))
    } else {
      (patch, suffix) = (0, String(rest))
    }
  }

  /// The kernel that runs this process.
  package static var running: KernelRelease? {
    var names = utsname()
    guard unsafe uname(&names) == 0 else { return nil }
    return unsafe withUnsafeBytes(of: &names.release) { bytes in
      unsafe KernelRelease(String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self))
    }
  }

  private static func takeNumber(from text: inout Substring) -> Int? {
    let digits = text.prefix { $0.isASCII && $0.isNumber }
    text = text[digits.endIndex...]
    return Int(digits)
  }

  private static func takePoint(from text: inout Substring) -> Bool {
    guard text.first == "." else { return false }
    text.removeFirst()
    return true
  }
}

extension KernelRelease {
  /// Whether futex waits on io_uring are known to be safe here. They came with Linux 6.7, and a wait that failed left
  /// io_uring with a pointer to freed memory (CVE-2025-39698). "io_uring/futex: ensure io_futex_wait() cleans up
  /// properly on failure" mended that, in 6.17 (508c1314b342) and the stable kernels 6.12.44 and 6.16.4. The series in
  /// between were out of support by then.
  ///
  /// `false` means "not known": a distribution may have mended a kernel whose number does not say so.
  package var hasMendedFutexWaits: Bool {
    switch (major, minor) {
    case (6, 12): patch >= 44
    case (6, 16): patch >= 4
    // Not worth finding out: which release candidate was the first to have it.
    case (6, 17): !suffix.hasPrefix("-rc") && !suffix.hasPrefix("~rc")
    // Ubuntu 24.04, and 22.04 with the newer kernel. Builds for clouds and the like have other numbers.
    case (6, 8): patch == 0 && (genericUbuntuBuild ?? 0) >= 94
    // A kernel before 6.7 has futex waits only if its distribution added them: mended or not, nobody can tell.
    default: (major, minor) > (6, 17)
    }
  }

  /// 94 for `-94-generic`.
  private var genericUbuntuBuild: Int? {
    let parts = suffix.split(separator: "-", omittingEmptySubsequences: false)
    guard parts.count == 3, parts[0].isEmpty, parts[2] == "generic" else { return nil }
    return Int(parts[1])
  }
}
