import MessageCoding

/// What a request's handler has thrown, in the other process: its description, and no more than that.
///
/// An error whose type both sides have registered with ``register(_:as:)`` arrives as itself instead.
public struct RemoteError: Error, Sendable, Hashable, CustomStringConvertible {
  /// The name of the error's type, as the other side has it: for logs. A peer may say anything.
  public let typeName: String
  /// What the other side says of the error, up to 4 KiB of it; empty if it says nothing.
  public let description: String

  /// Lets errors of a type arrive as themselves, if the other side registers the type as well, under the same name.
  ///
  /// For the whole process, and for good; best done before the first request. A peer can then make any value of the type
  /// arrive here as the outcome of a request: it has to be one that means no harm, whatever is in it.
  ///
  /// Thread-safe. The error is encoded with ``MessageCoders/current``; one that cannot be arrives as a ``RemoteError``.
  ///
  /// - Parameters:
  ///   - type: of the errors.
  ///   - name: the same on both sides; `nil`: the type's own, with its module's.
  public static func register<Failure: Error & Codable>(_ type: Failure.Type, as name: String? = nil) {
    RemoteErrors.register(type, as: name ?? String(reflecting: type))
  }
}

/// Why a request has no outcome of its handler's.
public enum RequestError: Error, Sendable, Hashable {
  /// The other side has no handler for requests with this name.
  case noHandler(name: String)
}

/// Errors that arrive as themselves.
enum RemoteErrors {
  private struct Registration: Sendable {
    let name: String
    let encode: @Sendable (any Error) -> [UInt8]?
    let decode: @Sendable ([UInt8]) -> (any Error)?
  }
  private struct Registrations: Sendable {
    var byName: [String: Registration] = [:]
    var byType: [ObjectIdentifier: Registration] = [:]
  }
  private static let registrations = PerProcess { Registrations() }

  static func register<Failure: Error & Codable>(_ type: Failure.Type, as name: String) {
    let registration = Registration(
      name: name, encode: { error in (error as? Failure).flatMap { try? MessageCoders.current.encode($0) } },
      decode: { bytes in unsafe try? MessageCoders.current.decode(Failure.self, from: bytes.span.bytes) })
    registrations.withLock { registrations in
      registrations.byName[name] = registration
      registrations.byType[ObjectIdentifier(type)] = registration
    }
  }

  /// `nil`: not registered, or not to be encoded. Runs the error's own code.
  static func encode(_ error: any Error) -> (name: String, bytes: [UInt8])? {
    let type = ObjectIdentifier(Swift.type(of: error))
    guard let registration = registrations.withLock({ $0.byType[type] }), let bytes = registration.encode(error) else {
      return nil
    }
    return (registration.name, bytes)
  }

  static func decode(_ name: String, _ bytes: [UInt8]) -> (any Error)? {
    registrations.withLock { $0.byName[name] }?.decode(bytes)
  }
}
