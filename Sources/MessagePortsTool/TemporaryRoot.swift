import ArgumentParser
import Foundation
import MessagePorts

@main
struct MessagePortsTool: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "messageports",
    abstract: "Looks at what message ports need and do on this machine.",
    subcommands: [Demo.self, DemoRoleCommand.self])

  static func main() async {
    MessageCoders.current = TemporaryCoder()
    await main(nil)
  }
}

struct TemporaryCoder: MessageCoder {
  func encode<T: Encodable>(_ value: T) throws -> [UInt8] { Array(try JSONEncoder().encode([value])) }
  func decode<T: Decodable>(_ type: T.Type, from bytes: RawSpan) throws -> T {
    let data = unsafe bytes.withUnsafeBytes { unsafe Data($0) }
    return try JSONDecoder().decode([T].self, from: data)[0]
  }
}
