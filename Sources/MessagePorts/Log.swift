import Logging

enum Log {
  static let logger = Logger(label: "MessagePorts")
}
