"""``python -m isogloss`` and the console script: the command line.

Importing it takes a second. Ctrl-C ends the process then without a word, as it ends others that
have done nothing yet; from :func:`main` on the command line says what it was at.
"""

import signal

_asked = signal.getsignal(signal.SIGINT)
if _asked is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from isogloss.service.cli.main import main  # noqa: E402 (under the handler above)

if _asked is signal.default_int_handler:
    signal.signal(signal.SIGINT, _asked)

__all__ = ["main"]

if __name__ == "__main__":
    main()
