// Stand-in for gRPC's header of the same name: XLA's distributed client, unused here, names the type.
#pragma once

namespace grpc {
class Channel;
}
