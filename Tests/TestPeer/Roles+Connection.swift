import MessagePorts

let connectionRoles: [String: Role] = [:]
