import Foundation
import MessagePorts
import Synchronization

/// What the survivor and the victim ask each other over the victim's own connection. This is the survivor's side.
///
/// Whatever was asked when the victim dies has one outcome: that its process was killed.
final class Questions: Sendable {
  /// So many elements has each stream.
  static let elements = 30
  /// Journal entries tell a stream's number and a count of elements apart.
  static let streamStep = 1000
  /// Questions that are never answered.
  private static let held = 3

  private struct State {
    var number = 0
    var begun = 0
    var ended = 0
    /// Of those that were never to be answered.
    var heldEnded = 0
    var faults: [String] = []
  }

  private let state = Mutex(State())
  private let journal: Journal

  init(_ connection: Connection, _ journal: Journal) {
    self.journal = journal
    connection.handle { [weak connection] registration in
      registration.onRequest(bytes: "round") { [self, connection] _ in
        guard let connection else { return [] }
        // In a task of its own: the handler's is cancelled when nobody waits for its answer any more.
        await Task(executorPreference: EventLoop.default) { [self] in await playRound(connection) }.value
        return []
      }
      registration.onStream("numbers", of: Int.self) { count, writer in
        for number in 0..<count { try await writer.send(number) }
      }
    }
    for _ in 0..<Self.held {
      Task(executorPreference: EventLoop.default) { [self] in
        do {
          _ = try await connection.request("hold", bytes: [])
          fail("an answer to a question that nobody answers")
        } catch {
          expectDeath(error, "a question that nobody answers")
          state.withLock { $0.heldEnded += 1 }
        }
      }
    }
  }

  private func fail(_ text: String) { state.withLock { $0.faults.append(text) } }

  private func expectDeath(_ error: any Error, _ what: String) {
    guard case .peerClosed(.peerExited(.signalled(SIGKILL)))? = error as? PortError else {
      return fail("\(what) ended with \(error)")
    }
  }

  private func next() -> Int {
    state.withLock { state in
      state.number += 1
      state.begun += 1
      return state.number
    }
  }

  private func playRound(_ connection: Connection) async {
    await askForEcho(connection)
    await readStream(connection)
  }

  private func askForEcho(_ connection: Connection) async {
    let number = next()
    defer { state.withLock { $0.ended += 1 } }
    do {
      let parcels = try Parcels(number, descriptors: 1, buffers: 2)
      let count = parcels.count
      let event = try await connection.request(
        "echo", bytes: Letters.make(number), descriptors: parcels.descriptors, buffers: parcels.buffers)
      if let fault = Letters.fault(event, number)
        ?? Parcels.fault(event.descriptors, event.buffers, number, count: count)
      {
        fail("an answer: \(fault)")
      }
    } catch {
      expectDeath(error, "a question")
    }
  }

  private func readStream(_ connection: Connection) async {
    let number = next()
    defer { state.withLock { $0.ended += 1 } }
    var count = 0
    do {
      for try await element in connection.stream("count", number, of: Int.self) {
        if element != count { fail("element \(element) instead of \(count)") }
        count += 1
      }
      if count != Self.elements { fail("a stream has ended after \(count) elements") }
    } catch {
      expectDeath(error, "a stream")
      // What was sent before is delivered.
      let sent = journal[.elementsSent]
      if sent / Self.streamStep == number, count < sent % Self.streamStep {
        fail("\(count) of \(sent % Self.streamStep) elements of a stream")
      }
    }
  }

  // MARK: The verdict

  func missing() -> String? {
    state.withLock { state in
      if state.heldEnded < Self.held { return "\(Self.held - state.heldEnded) questions wait for a dead process" }
      return state.ended < state.begun ? "\(state.begun - state.ended) questions have no outcome" : nil
    }
  }

  func fault() -> String? { state.withLock { $0.faults.first } }
}

/// The victim's side.
extension Victim {
  static func answer(_ registration: inout Connection.Registration, _ journal: Journal) {
    registration.onRequest(bytes: "echo") { context in
      context.transfer(descriptors: context.descriptors, buffers: context.buffers)
      return context.bytes
    }
    registration.onRequest(bytes: "hold") { _ in
      await withCheckedContinuation { (never: CheckedContinuation<Void, Never>) in held.withLock { $0.append(never) } }
      return []
    }
    registration.onStream("count", of: Int.self) { number, writer in
      journal[.elementsSent] = number * Questions.streamStep
      for count in 0..<Questions.elements {
        try await writer.send(count)
        journal[.elementsSent] = number * Questions.streamStep + count + 1
      }
    }
  }

  private static let held = Mutex<[CheckedContinuation<Void, Never>]>([])

  /// Asks the survivor, who asks this process before it answers; and reads a stream of its.
  static func ask(_ connection: Connection) throws {
    let done = DispatchSemaphore(value: 0)
    let problem = Mutex<(any Error)?>(nil)
    Task(executorPreference: EventLoop.default) {
      do {
        _ = try await connection.request("round", bytes: [])
        var count = 0
        for try await number in connection.stream("numbers", Questions.elements, of: Int.self) {
          precondition(number == count, "element \(number) instead of \(count)")
          count += 1
        }
        precondition(count == Questions.elements, "a stream has ended after \(count) elements")
      } catch {
        problem.withLock { $0 = error }
      }
      done.signal()
    }
    done.wait()
    if let error = problem.withLock({ $0 }) { throw error }
  }
}
