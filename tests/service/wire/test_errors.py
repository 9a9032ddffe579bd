import errno
import os

import grpc
import pytest
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from isogloss import errors
from isogloss.errors import IsoglossError
from isogloss.service.wire.errors import (
    CODES,
    DETAILS_KEY,
    code_of,
    from_call,
    from_status,
    to_status,
)


def every_error(root: type[IsoglossError] = IsoglossError) -> list[type[IsoglossError]]:
    return [root, *(e for child in root.__subclasses__() for e in every_error(child))]


@pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.__name__)
def test_every_error_comes_back_as_itself(kind: type[IsoglossError]) -> None:
    status = to_status(kind("found 3, wanted 4: add one"))
    back = from_status(status_pb2.Status.FromString(status.SerializeToString()))
    assert type(back) is kind
    assert str(back) == "found 3, wanted 4: add one"
    assert code_of(back).value[0] == status.code


def test_each_error_says_its_reason_and_domain_to_other_clients() -> None:
    info = error_details_pb2.ErrorInfo()
    assert to_status(errors.UnknownSite("no site")).details[0].Unpack(info)
    assert (info.reason, info.domain) == ("UNKNOWN_SITE", "isogloss")


def test_only_defects_are_internal() -> None:
    internal = {kind for kind in every_error() if code_of(kind("x")) == grpc.StatusCode.INTERNAL}
    assert internal == {errors.InternalError}
    assert set(CODES) <= set(every_error())


@pytest.mark.parametrize(
    ("number", "code", "says"),
    [
        (errno.ENOSPC, "RESOURCE_EXHAUSTED", "free some space"),
        (errno.EDQUOT, "RESOURCE_EXHAUSTED", "free some space"),
        (errno.EMFILE, "RESOURCE_EXHAUSTED", "ulimit -n"),
        (errno.ENFILE, "RESOURCE_EXHAUSTED", "fs.file-max"),
        (errno.ENOMEM, "RESOURCE_EXHAUSTED", "no memory"),
        (errno.EAGAIN, "RESOURCE_EXHAUSTED", "try again later"),
        (errno.EIO, "FAILED_PRECONDITION", "see to its disk"),
        (errno.EROFS, "FAILED_PRECONDITION", "see to its disk"),
        (errno.EACCES, "FAILED_PRECONDITION", "permissions"),
        (errno.ENOENT, "FAILED_PRECONDITION", "isogloss verify"),
        (errno.EISDIR, "FAILED_PRECONDITION", "EISDIR"),
    ],
)
def test_what_the_system_refuses_is_named_without_its_path_and_logged_with_it(
    caplog: pytest.LogCaptureFixture, number: int, code: str, says: str
) -> None:
    status = to_status(OSError(number, os.strerror(number), "/home/secret/place"))
    back = from_status(status)
    assert code_of(back).name == code
    assert errno.errorcode[number] in status.message
    assert says in status.message
    assert "secret" not in status.message
    assert "/home/secret/place" in caplog.text


def test_an_error_of_ours_that_is_one_of_the_system_stays_what_it_is() -> None:
    ours = errors.StorageFull("mine")
    assert errors.from_os_error(ours) is ours
    assert isinstance(errors.from_os_error(OSError("odd")), errors.StorageError)


def test_an_unexpected_exception_does_not_send_its_text(caplog: pytest.LogCaptureFixture) -> None:
    status = to_status(KeyError("secret"))
    assert "secret" not in status.message
    assert isinstance(from_status(status), errors.InternalError)
    assert "secret" in caplog.text


@pytest.mark.parametrize("text", ["x" * 100_000, "ж" * 50_000, "𝄞" * 50_000, "a\ud800" * 9_000])
def test_a_text_of_any_length_and_alphabet_fits_into_metadata(text: str) -> None:
    status = to_status(errors.NotFound(text))
    back = from_status(status_pb2.Status.FromString(status.SerializeToString()))
    assert isinstance(back, errors.NotFound)
    assert str(back).startswith(text[:1])
    sent = 3 * len(status.message.encode()) + 4 * len(status.SerializeToString()) / 3
    assert sent < 8192 - 1024


def test_a_server_without_memory_says_so_and_is_no_defect() -> None:
    assert isinstance(from_status(to_status(MemoryError())), errors.ResourceExhausted)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, errors.ServerUnavailable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, errors.DeadlineExceeded),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, errors.ResourceExhausted),
        (grpc.StatusCode.UNIMPLEMENTED, errors.UnsupportedVersion),
        (grpc.StatusCode.INTERNAL, errors.InternalError),
        (None, errors.InternalError),
    ],
)
def test_a_status_that_grpc_made_names_the_address_and_a_remedy(
    code: grpc.StatusCode | None, kind: type[IsoglossError]
) -> None:
    error = from_call(code, "refused", (), "127.0.0.1:1")
    assert type(error) is kind
    assert "127.0.0.1:1" in str(error)
    assert ";" in str(error)


def test_damaged_details_fall_back_to_the_code() -> None:
    with pytest.raises(DecodeError):
        status_pb2.Status.FromString(b"\xff")
    trailers = ((DETAILS_KEY, b"\xff"),)
    error = from_call(grpc.StatusCode.UNAVAILABLE, "gone", trailers, "unix:/x")
    assert type(error) is errors.ServerUnavailable
