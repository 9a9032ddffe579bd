"""Values and messages of every kind: converting, with all that is declared about it at hand."""

from isogloss.service.wire import features, recordings, upkeep
from isogloss.service.wire.convert import check_inner, from_message, to_message

DECLARED = (features, recordings, upkeep)
"""Modules that declare how values and messages differ; importing this one has imported them."""

check_inner()

__all__ = ["DECLARED", "from_message", "to_message"]
