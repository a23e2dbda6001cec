import MessageCoding

/// Why a request has no reply, as it is sent.
struct RequestFailure: Codable, Sendable {
  enum Kind: UInt8, Codable {
    /// The handler has thrown something.
    case thrown = 0
    case noHandler = 1
    /// The asker had given up before a handler began.
    case cancelled = 2
  }

  var kind: Kind
  /// The name of the error's type, or of the request that nobody handles.
  var name: String
  var description = ""
  /// The error itself, if its type is registered.
  var encoded: [UInt8]?

  /// In bytes of UTF-8, for both sides: a description is for people.
  private static let longestText = 4096

  private init(_ kind: Kind, _ name: String) { (self.kind, self.name) = (kind, name) }

  static func noHandler(_ name: String) -> RequestFailure { RequestFailure(.noHandler, name) }
  static var cancelled: RequestFailure { RequestFailure(.cancelled, "") }

  /// Runs the error's own code: not under a lock.
  init(thrown error: any Error) {
    kind = .thrown
    if let relayed = error as? RemoteError {
      name = relayed.typeName
      description = relayed.description
      return
    }
    if let (registered, bytes) = RemoteErrors.encode(error) {
      (name, encoded) = (registered, bytes)
    } else {
      name = Self.shortened(String(reflecting: type(of: error)))
    }
    description = Self.shortened("\(error)")
  }

  private static func shortened(_ text: String) -> String {
    guard text.utf8.count > longestText else { return text }
    // A scalar takes four bytes at most.
    return String(String.UnicodeScalarView(text.unicodeScalars.prefix(longestText / 4)))
  }

  func envelope(_ number: UInt64) -> [UInt8] {
    let bytes = (try? BinaryMessageCoder().encode(self)) ?? []
    // Without a name, there is an envelope in any case.
    return unsafe NamedEnvelope.make(.failure, number, bytes.span.bytes) ?? []
  }

  /// What the asker is told. Bytes that say nothing are a failure of which nothing is known.
  static func error(from event: MessageEvent) -> any Error {
    guard let failure = try? event.decode(RequestFailure.self, coder: BinaryMessageCoder()) else {
      return RemoteError(typeName: "", description: "")
    }
    switch failure.kind {
    case .noHandler: return RequestError.noHandler(name: shortened(failure.name))
    case .cancelled: return PortError.cancelled
    case .thrown:
      if let encoded = failure.encoded, let error = RemoteErrors.decode(failure.name, encoded) { return error }
      return RemoteError(typeName: shortened(failure.name), description: shortened(failure.description))
    }
  }
}
