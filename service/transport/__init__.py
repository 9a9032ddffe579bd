"""Ways in which calls travel: in this process, or over gRPC."""
