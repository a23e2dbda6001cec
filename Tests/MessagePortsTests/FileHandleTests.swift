import Foundation
import MessagePorts
import MessagePortsFoundation
import TestSupport
import Testing

@Suite("File handles", .timeLimit(.minutes(3)))
struct FileHandleTests {
  @Test("11.1, 11.2 A file handle's file travels, and arrives as a file handle's", arguments: Place.allCases)
  func roundTrip(_ place: Place) async throws {
    let near = try place.open(.echo)
    let path = freshPath(".txt")
    try #require(FileManager.default.createFile(atPath: path, contents: Data("hello".utf8)))
    defer { try? FileManager.default.removeItem(atPath: path) }
    // Foundation would leave it open in every process that another test starts.
    let handle = FileHandle(fileDescriptor: unsafe open(path, O_RDONLY | O_CLOEXEC), closeOnDealloc: true)
    try near.postMessage(bytes: Data([1]), descriptors: [Descriptor(duplicating: handle)])
    let event = try await onThread { try near.receiveSoon() }
    let received = try #require(event.descriptors.first)
    let file = try FileHandle(taking: received)
    #expect(try file.readToEnd() == Data("hello".utf8))
    #expect(throws: DescriptorError.taken) { try FileHandle(taking: received) }
    // They share a position.
    #expect(try handle.offset() == 5)
    try file.close()
    try handle.close()
  }

  @Test("11.1 A handle that was closed cannot be duplicated")
  func closed() throws {
    #expect(throws: DescriptorError.self) { try Descriptor(duplicating: FileHandle(fileDescriptor: -1)) }
  }
}
