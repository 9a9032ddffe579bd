"""isogloss.v1, the wire format: ``isogloss/v1/*.proto`` and, in ``v1``, the code made from them."""
