import MessagePorts
import Testing

/// Which kernels may be trusted with futex waits on io_uring.
@Suite("Kernel releases") struct KernelReleaseTests {
  @Test(
    "Futex waits are trusted where the kernel's number says that they were mended, and nowhere else",
    arguments: [
      // The first stable releases with the mend, and the last without.
      ("6.12.43", false), ("6.12.44", true), ("6.12.100", true),
      ("6.16.3", false), ("6.16.4", true), ("6.16.12", true),
      ("6.17.0", true), ("6.17", true), ("6.18.44-fc-v669", true), ("7.0.1", true), ("10.0.0", true),
      // Candidates of the first kernel with it.
      ("6.17.0-rc1", false), ("6.17-rc7", false), ("6.17~rc4-amd64", false), ("6.18.0-rc1", true),
      // Lines that ended before they could get it.
      ("6.7.12", false), ("6.8.12", false), ("6.9.12", false), ("6.10.14", false), ("6.11.11", false),
      ("6.13.12", false), ("6.14.11", false), ("6.15.11", false),
      // Older than futex waits: a kernel that has them got them from its distribution.
      ("6.6.200", false), ("6.1.0-40-amd64", false), ("5.14.0-570.49.1.el9_6.x86_64", false),
      // Debian names the stable release.
      ("6.12.41+deb13-amd64", false), ("6.12.43+deb12-cloud-amd64", false), ("6.12.48+deb13-amd64", true),
      ("6.16.3+deb14-amd64", false), ("6.16.7+deb14-arm64", true),
      // Ubuntu counts builds, for each kind of kernel in its own way.
      ("6.8.0-93-generic", false), ("6.8.0-94-generic", true), ("6.8.0-110-generic", true),
      ("6.8.0-1044-aws", false), ("6.8.0-94", false), ("6.8.0-94-generic-custom", false), ("6.8.4-94-generic", false),
      ("6.8.0--94-generic", false), ("6.11.0-94-generic", false), ("6.14.0-94-generic", false),
      ("6.17.0-5-generic", true),
      // Red Hat and SUSE keep 0, whatever they have put in.
      ("6.12.0-55.37.1.el10_0.x86_64", false), ("6.12.0-160000.5-default", false),
    ])
  func mended(release: String, isMended: Bool) throws {
    #expect(try #require(KernelRelease(release)).hasMendedFutexWaits == isMended)
  }

  @Test("A release is two or three numbers, and what follows them")
  func parts() throws {
    func parts(_ text: String) -> [String]? {
      KernelRelease(text).map { ["\($0.major)", "\($0.minor)", "\($0.patch)", $0.suffix] }
    }
    #expect(parts("6.12.48+deb13-amd64") == ["6", "12", "48", "+deb13-amd64"])
    #expect(parts("6.17-rc5") == ["6", "17", "0", "-rc5"])
    #expect(parts("6.1.0-37-amd64") == ["6", "1", "0", "-37-amd64"])
    #expect(parts("6.6.87.2-microsoft-standard-WSL2") == ["6", "6", "87", ".2-microsoft-standard-WSL2"])
    #expect(parts("6.12.") == ["6", "12", "0", "."])
  }

  @Test(
    "What is no release is none",
    arguments: ["", "unknown", "6", "6.", ".12", "-6.12.44", "6-12", " 6.12.44", "6.99999999999999999999", "٦.١٢"])
  func noRelease(text: String) { #expect(KernelRelease(text) == nil) }

  @Test("The kernel that runs has a release") func running() { #expect(KernelRelease.running != nil) }
}
