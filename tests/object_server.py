"""A real object store for tests: a server of the S3 protocol in its own process."""

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager

_SERVER = """
import threading

from moto.s3.responses import S3Response
from moto.server import main

alone, put = threading.Lock(), S3Response._key_response_put

def one_at_a_time(*args, **kwargs):
    with alone:
        return put(*args, **kwargs)

S3Response._key_response_put = one_at_a_time
main()
"""
"""moto looks whether an object is there and writes it later, so that of two threads that create one
both may be told that they did. S3 promises that one is."""


@contextmanager
def object_server() -> Generator[str]:
    """Give the address of an empty bucket; the environment says how it is reached meanwhile."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-c", _SERVER, "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    settings = {
        "AWS_ENDPOINT_URL": address,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        made = urllib.request.Request(f"{address}/bucket", method="PUT")
        for _ in range(600):
            with contextlib.suppress(OSError), urllib.request.urlopen(made, timeout=10):
                break
            time.sleep(0.1)
        yield "s3://bucket"
    finally:
        server.terminate()
        server.wait()
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
