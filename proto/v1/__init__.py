"""Messages and services of package isogloss.v1, made by ``proto/generate.py``."""

__all__ = [
    "dictionaries_pb2",
    "dictionaries_pb2_grpc",
    "jobs_pb2",
    "jobs_pb2_grpc",
    "recordings_pb2",
    "recordings_pb2_grpc",
    "types_pb2",
    "universality_pb2",
    "universality_pb2_grpc",
]
