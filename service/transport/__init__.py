"""How calls travel: in this process or over gRPC."""
