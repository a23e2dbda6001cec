import MessagePorts

struct Question: Codable { var text: String }

let channel = try MessageChannel()
channel.port1.onMessage = { event in
  let answer = (try? event.decode(Question.self).text.count) ?? 0
  try? event.ports.first?.postMessage(answer)
}
channel.port1.onClose = { reason in print("the asking side is gone: \(reason)") }

let reply = try MessageChannel()
try channel.port2.postMessage(Question(text: "How long is this?"), transfer: [reply.port2])
print("answer:", try reply.port1.receive(timeout: .seconds(5)).decode(Int.self))
channel.port2.close()
await EventLoop.default.waitUntilIdle()
