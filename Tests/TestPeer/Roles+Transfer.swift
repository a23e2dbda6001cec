import MessagePorts

let transferRoles: [String: Role] = [:]
