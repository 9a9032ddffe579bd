"""A check that fails a test; the shipped contracts use no ``assert``."""


def require(condition: bool, message: str) -> None:
    """Raise ``AssertionError`` with the message unless the condition holds."""
    if not condition:
        raise AssertionError(message)
