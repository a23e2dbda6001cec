import CSupport

package enum Processors {
  /// Whether another process can run while this one spins. Looked up once.
  package static let areSeveral = csupport_usable_processors() > 1
}
