import Glibc
import MessagePorts

// More small loops for check-instructions.sh, in a program of their own: what else is in one changes what the compiler
// makes of the others.

// A value of five fields, one of them nested, as programs send them: by its own code, and by `Codable`.

struct Order: MessageValue {
  var id: Int
  var name: String
  var price: Double
  var isPaid: Bool
  var address: Address

  struct Address: MessageValue {
    var street: String
    var number: Int

    init(street: String, number: Int) { (self.street, self.number) = (street, number) }

    func write(to writer: inout ValueWriter) {
      writer.writeEntries { entries in
        entries.write(street, forKey: "street")
        entries.write(number, forKey: "number")
      }
    }

    init(from reader: inout ValueReader) throws {
      self = try reader.readEntries { entries in
        Address(street: try entries.read(forKey: "street"), number: try entries.read(forKey: "number"))
      }
    }
  }

  static let example = Order(
    id: 123_456, name: "kettle", price: 19.5, isPaid: true, address: Address(street: "Main Street", number: 7))

  init(id: Int, name: String, price: Double, isPaid: Bool, address: Address) {
    (self.id, self.name, self.price, self.isPaid, self.address) = (id, name, price, isPaid, address)
  }

  func write(to writer: inout ValueWriter) {
    writer.writeEntries { entries in
      entries.write(id, forKey: "id")
      entries.write(name, forKey: "name")
      entries.write(price, forKey: "price")
      entries.write(isPaid, forKey: "isPaid")
      entries.write(address, forKey: "address")
    }
  }

  init(from reader: inout ValueReader) throws {
    self = try reader.readEntries { entries in
      Order(
        id: try entries.read(forKey: "id"), name: try entries.read(forKey: "name"),
        price: try entries.read(forKey: "price"), isPaid: try entries.read(forKey: "isPaid"),
        address: try entries.read(forKey: "address"))
    }
  }
}

@inline(never)
func directWriteLoop(_ order: Order, _ count: Int) throws -> Int {
  var sum = 0
  for _ in 0..<count { sum &+= try BinaryMessageCoder().withEncoded(order) { $0.byteCount } }
  return sum
}

@inline(never)
func directReadLoop(_ message: [UInt8], _ count: Int) throws -> Int {
  var sum = 0
  for _ in 0..<count {
    sum &+= try unsafe BinaryMessageCoder().decode(Order.self, from: message.span.bytes).address.number
  }
  return sum
}

// The compiler does not know here that the type has code of its own.

@inline(never)
func codableWriteLoop(_ order: Order, _ count: Int) throws -> Int {
  var sum = 0
  for _ in 0..<count { sum &+= try encode(order).count }
  return sum
}

@inline(never)
func codableReadLoop(_ message: [UInt8], _ count: Int) throws -> Int {
  var sum = 0
  for _ in 0..<count { sum &+= try decode(Order.self, message).address.number }
  return sum
}

private func encode<Value: Encodable>(_ value: Value) throws -> [UInt8] { try BinaryMessageCoder().encode(value) }

private func decode<Value: Decodable>(_ type: Value.Type, _ message: [UInt8]) throws -> Value {
  try unsafe BinaryMessageCoder().decode(type, from: message.span.bytes)
}

guard CommandLine.arguments.count == 3, let count = Int(CommandLine.arguments[2]) else { _exit(1) }
let message = try encode(Order.example)
let sum =
  switch CommandLine.arguments[1] {
  case "value-write": try directWriteLoop(.example, count)
  case "value-read": try directReadLoop(message, count)
  case "codable-write": try codableWriteLoop(.example, count)
  case "codable-read": try codableReadLoop(message, count)
  default: 0
  }
_exit(sum > 0 ? 0 : 1)
