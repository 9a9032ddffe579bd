"""isogloss.v1, the wire format: ``isogloss/v1/*.proto``, and the code made from them in ``v1``."""

__all__ = ["v1"]
