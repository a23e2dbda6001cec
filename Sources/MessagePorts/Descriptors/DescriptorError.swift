/// Why something could not be done with a ``Descriptor``. Nothing has changed.
public enum DescriptorError: Error, Sendable, Hashable {
  /// It was closed; or this process was forked off after it was made.
  case closed
  /// ``Descriptor/take()`` gave it away.
  case taken
  /// It was posted: the message's receiver has it.
  case posted
  /// Somebody is using it: see ``Descriptor/withDescriptor(_:)``.
  case inUse
  /// The operating system refused something.
  case system(SystemError)
}

/// Why a descriptor may not travel with a message.
public enum DescriptorProblem: Sendable, Hashable {
  /// It is in the list twice.
  case isListedTwice
  /// It was closed before.
  case isClosed
  /// It was taken before.
  case isTaken
  /// It was posted before.
  case isPosted
  /// Somebody is using it: see ``Descriptor/withDescriptor(_:)``.
  case isInUse
}
