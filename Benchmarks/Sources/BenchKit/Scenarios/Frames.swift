import MessagePorts

extension Scenario {
  static let frames: [Scenario] = [
    Scenario(name: "frame-copied", near: Frames.copied, far: Frames.takeCopies),
    Scenario(name: "frame-frozen", near: Frames.frozen, far: Frames.takeBuffers),
    Scenario(name: "frame-shared", near: Frames.shared, far: Frames.takeShared),
    Scenario(name: "frame-pooled", near: Frames.pooled, far: Frames.returnShared),
    Scenario(name: "frame-kept", near: Frames.kept, far: Frames.takeBuffers),
  ]
}

/// One large message at a time, which is answered by eight bytes: through the ring, in a new frozen buffer for each, in one
/// shared buffer that is used again and again, in one of a pool, which comes back with the answer, or as one frozen buffer that is
/// sent again and again. Both sides poll.
///
/// Each but the last is copied twice: from a warm buffer into what travels, and from there into another, of which both ends are checked.
enum Frames {
  // MARK: Near

  private static func measure(
    _ job: Job, _ near: NearSide, _ post: (MessagePort, MessageBuffer) throws -> Void,
    answered: (MessageEvent) throws -> Void = { _ in }
  ) throws -> Outcome {
    let port = try near.openChannel(ChannelOptions(spinPolicy: .always))
    try near.waitUntilReady()
    let source = MessageBuffer(size: job.size)
    var sequence: UInt64 = 0
    let rate = try measureRate(job) {
      source.stamp(sequence)
      try post(port, source)
      let answer = try port.receive()
      guard try answer.load(as: UInt64.self) == sequence else { throw Message.Damaged(description: "a wrong answer") }
      try answered(answer)
      sequence &+= 1
    }
    return Outcome(rate)
  }

  static func copied(_ job: Job, _ near: NearSide) throws -> Outcome {
    try measure(job, near) { port, source in try unsafe port.postMessage(bytes: source.raw.bytes) }
  }

  static func frozen(_ job: Job, _ near: NearSide) throws -> Outcome {
    try measure(job, near) { port, source in
      try unsafe port.postMessage(buffers: [.frozen(FrozenBuffer(copying: source.raw.bytes))])
    }
  }

  static func kept(_ job: Job, _ near: NearSide) throws -> Outcome {
    var frame: FrozenBuffer?
    return try measure(job, near) { port, source in
      let original = try frame ?? FrozenBuffer(copying: unsafe source.raw.bytes)
      frame = original
      try port.postMessage(buffers: [.frozen(original.copy())])
    }
  }

  static func shared(_ job: Job, _ near: NearSide) throws -> Outcome {
    var frame: UntrustedBuffer?
    return try measure(job, near) { port, source in
      if let frame {
        try unsafe frame.write(source.raw.bytes, at: 0)
        return try port.postMessage(bytes: [])
      }
      var made = try SharedBuffer(byteCount: job.size)
      try unsafe made.write(source.raw.bytes)
      let first = try made.share()
      frame = first
      try port.postMessage(buffers: [.shared(first.copy())])
    }
  }

  static func pooled(_ job: Job, _ near: NearSide) throws -> Outcome {
    let pool = try SharedBufferPool(byteCount: job.size, capacity: 2)
    return try measure(job, near) { port, source in
      guard let frame = try pool.tryTake() else { throw Message.Damaged(description: "a frame has not come back") }
      try unsafe frame.write(source.raw.bytes, at: 0)
      try port.postMessage(buffers: [.shared(frame)])
    } answered: { answer in
      for buffer in answer.buffers { try pool.giveBack(buffer) }
    }
  }

  // MARK: Far

  private static func serve(_ far: FarSide, givesBack: Bool = false, _ take: (MessageEvent) throws -> UInt64) throws {
    let port = try far.nextPort()
    try far.sayReady()
    // It ends with the near process.
    while true {
      guard case .message(let event) = try port.tryReceive() else { continue }
      let answer = try take(event)
      if givesBack {
        try port.postMessage(bitwise: answer, buffers: event.buffers)
      } else {
        try port.postMessage(bitwise: answer)
      }
    }
  }

  /// Checks both ends of a copy, and returns its number.
  private static func check(_ copy: MessageBuffer) throws -> UInt64 {
    let sequence = unsafe copy.raw.loadUnaligned(as: UInt64.self)
    let tail = unsafe copy.raw.loadUnaligned(fromByteOffset: copy.size - 8, as: UInt64.self)
    guard tail == sequence ^ Message.tailMix else { throw Message.Damaged(description: "the end is another message's") }
    return sequence
  }

  static func takeCopies(_ job: Job, _ far: FarSide) throws {
    try serve(far) { event in
      try event.withBytes { bytes in
        let sequence = unsafe bytes.unsafeLoadUnaligned(as: UInt64.self)
        let tail = unsafe bytes.unsafeLoadUnaligned(fromByteOffset: job.size - 8, as: UInt64.self)
        guard tail == sequence ^ Message.tailMix else {
          throw Message.Damaged(description: "the end is another message's")
        }
        return sequence
      }
    }
  }

  static func takeBuffers(_ job: Job, _ far: FarSide) throws {
    let copy = MessageBuffer(size: job.size)
    var count: UInt64 = 0
    try serve(far) { event in
      guard case .frozen(let frame)? = event.buffers.first, try frame.bytes().withBytes(copy.copy) else {
        throw Message.Damaged(description: "no frame")
      }
      defer { count += 1 }
      let sequence = try check(copy)
      // One that was kept has its first number for ever.
      return job.scenario == "frame-kept" ? count : sequence
    }
  }

  static func takeShared(_ job: Job, _ far: FarSide) throws {
    let copy = MessageBuffer(size: job.size)
    var frame: UntrustedBuffer?
    try serve(far) { event in
      if case .shared(let first)? = event.buffers.first { frame = first }
      var target = unsafe copy.target.mutableBytes
      try frame?.read(into: &target, at: 0)
      return try check(copy)
    }
  }

  static func returnShared(_ job: Job, _ far: FarSide) throws {
    let copy = MessageBuffer(size: job.size)
    try serve(far, givesBack: true) { event in
      guard case .shared(let frame)? = event.buffers.first else { throw Message.Damaged(description: "no frame") }
      var target = unsafe copy.target.mutableBytes
      try frame.read(into: &target, at: 0)
      return try check(copy)
    }
  }
}
