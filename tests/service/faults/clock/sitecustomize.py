"""Lets the wall clock of a Python process jump: by as many seconds as a file says at that moment.

Python imports this by itself where its folder is on PYTHONPATH. Other clocks go on as they are, and
so do the times of files, as after a step of a time server. So does the clock that grpc reads: its
Python part gives moments of it to its C part, which reads the machine's own, and compares moments
that the C part gives it. It is compiled, so whose call it is cannot be seen from its frames: where
a call's time left was asked for by the server, a jump forward left none.
"""

import os
import sys
import time
from types import SimpleNamespace

_now_s = time.time
_file = os.environ.get("ISOGLOSS_TEST_CLOCK", "")


def _jumping() -> float:
    compiled = sys.modules.get("grpc._cython.cygrpc")
    if compiled is not None and getattr(compiled, "time", None) is time:
        own = SimpleNamespace(**{**vars(time), "time": _now_s})
        setattr(compiled, "time", own)  # noqa: B010 (modules are not known to have attributes)
    if sys._getframe(1).f_globals.get("__name__", "").startswith("grpc"):
        return _now_s()
    try:
        with open(_file) as found:
            return _now_s() + float(found.read())
    except (OSError, ValueError):  # it has not jumped yet
        return _now_s()


if _file:
    time.time = _jumping
