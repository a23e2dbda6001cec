import Foundation
import MessagePortsTool
import Testing

extension MachineFacts {
  /// A machine on which all is well; tests then spoil one thing.
  static func healthy(_ spoil: (inout MachineFacts) -> Void = { _ in }) throws -> MachineFacts {
    var facts = try JSONDecoder().decode(MachineFacts.self, from: Data(healthyJSON.utf8))
    spoil(&facts)
    return facts
  }

  private static var healthyJSON: String {
    """
    {
      "kernelRelease": "6.18.44",
      "overrides": {},
      "eventLoop": {
        "uring": {"works": true}, "uringFutexWaits": true, "uringPolls": true, "uringDisabled": 0,
        "seccompMode": 0, "epoll": {"works": true}, "driver": "uring"
      },
      "memory": {
        "memfd": {"creation": {"works": true}, "growth": {"works": true}, "refusesToShrink": true},
        "memfdNoexec": 0,
        "posixSharedMemory": {"creation": {"works": true}, "growth": {"works": true}, "refusesToShrink": false},
        "devShm": {"sizeBytes": 8589934592, "freeBytes": 8589934592}
      },
      "processes": {"usableProcessors": 8, "membarrier": true, "pidfd": {"works": true}, "isRoot": false},
      "limits": {
        "openFiles": {"soft": 20007, "hard": 524288},
        "fileSizeBytes": {"soft": "unlimited", "hard": "unlimited"},
        "addressSpaceBytes": {"soft": "unlimited", "hard": "unlimited"},
        "openFilesCeiling": 1048576, "systemFiles": 9223372036854775807, "systemFilesInUse": 1000,
        "mappings": 65530, "mappingsInUse": 130
      },
      "sockets": {
        "pair": {"works": true}, "defaultSendBufferBytes": 212992, "largestSendBufferBytes": 212992,
        "raisedSendBufferBytes": 425984, "datagramQueueLength": 512
      },
      "sandbox": {"userNamespaces": 96365, "bubblewrap": {"path": "/usr/bin/bwrap"}}
    }
    """
  }
}

extension Diagnosis {
  /// What it finds on a machine on which one thing is spoiled.
  static func of(_ spoil: (inout MachineFacts) -> Void) throws -> Diagnosis { Diagnosis(try .healthy(spoil)) }

  /// What it has to say except that all is well.
  var complaints: [Finding] { findings.filter { $0.level != .ok } }

  func text(_ subject: String) -> String? { findings.first { $0.subject == subject }?.text }
}
