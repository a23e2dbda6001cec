import CSupport

/// Whether this process answers `membarrier`, so that writers need no fence while their reader polls.
enum Membarrier {
  static let isRegistered = csupport_membarrier_is_available() == 1 && csupport_membarrier_register() >= 0
}
