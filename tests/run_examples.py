"""Runs scripts, each in a process of its own that finds torch and transformers imported already.

Reads lines of JSON, ``[script, argument, ...]``; says after each how its process ended.
"""

import json
import os
import runpy
import sys
from importlib import import_module


def main() -> None:
    for name in ("torch", "transformers", "transformers.models.gpt2.modeling_gpt2"):
        import_module(name)  # seconds, once
    for line in sys.stdin:
        words = json.loads(line)
        process = os.fork()
        if not process:
            sys.argv = words
            runpy.run_path(words[0], run_name="__main__")
            sys.exit()
        _, status = os.waitpid(process, 0)
        sys.stdout.write(f"ended {os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
