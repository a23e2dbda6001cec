import MessagePorts
import MessagePortsMacros

@MessageValue
struct Order { var id: Int, name: String, note: String? }

@MessageValue
enum Delivery {
  case parcel(weight: Double)
  case pickup

  enum CodingKeys: String, CodingKey { case parcel, pickup = "self-service" }
}
