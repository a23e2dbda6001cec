public import Foundation
public import MessagePorts

extension Descriptor {
  /// A number of its own for the handle's open file; the handle keeps its own.
  ///
  /// (A handle cannot give its number away. Whoever wants to move a file and has a handle duplicates, and closes that.)
  ///
  /// - Throws: ``DescriptorError/system(_:)``: the handle is closed, or no descriptor is left.
  public convenience init(duplicating handle: FileHandle) throws(DescriptorError) {
    try self.init(duplicating: handle.fileDescriptor)
  }
}

extension FileHandle {
  /// Takes a descriptor out, for a handle that closes it.
  ///
  /// Reading and writing may take as long as whoever sent it likes; see ``Descriptor``.
  ///
  /// - Throws: what ``Descriptor/take()`` throws; nothing has changed.
  public convenience init(taking descriptor: Descriptor) throws(DescriptorError) {
    self.init(fileDescriptor: try descriptor.take(), closeOnDealloc: true)
  }
}
