import MessagePorts
import MessagePortsMacros
import Testing

@MessageValue
public struct Public: Equatable { var one = 1 }

@MessageValue
package enum Packaged: Equatable { case one }

@MessageValue
private struct Hidden: Equatable { var one = 1 }

@MessageValue
fileprivate enum InFile: Equatable { case one(Int) }

public enum Space {
  @MessageValue
  public struct Inside: Equatable { var one = 1 }
}

public extension Space {
  @MessageValue
  struct Later: Equatable { var one = 1 }
}

/// It says itself what it is.
@MessageValue
struct Stated: MessageValue, Equatable { var one = 1 }

func checkAccess() throws {
  try check(Public())
  try check(Packaged.one)
  try check(Hidden())
  try check(InFile.one(2))
  try check(Space.Inside())
  try check(Space.Later())
  try check(Stated())
}
