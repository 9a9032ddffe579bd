"""What went wrong between two ends of which one or both speak TLS, in words with a remedy."""

import re

_REFUSED = re.compile(r"CERTIFICATE_VERIFY_FAILED: ([^:;]+)")
_GIVE = (
    "give connect(..., certificate=...), or ISOGLOSS_CERTIFICATE, the PEM file of what signed the "
    "server's: of a certificate that signed itself, that one"
)


def tls_trouble(said: str, address: str, *, has_tls: bool) -> str:
    """Say why a connection did not come about, where TLS is the reason.

    Args:
        said: what grpc says of the call that failed.
        address: where the call went.
        has_tls: whether this end speaks TLS.

    Returns:
        What was found, what was wanted and what to do; empty where grpc names another reason.
    """
    if "failed to connect" not in said:
        return ""
    if not has_tls:
        # all that a server that waits for TLS does about other bytes
        is_cut = "Socket closed" in said or "Connection reset" in said
        if not is_cut or address.startswith("unix:"):
            return ""
        return (
            "the server ended the connection before any call, as one does that speaks TLS, which "
            f"this client does not: {_GIVE}"
        )
    if refused := _REFUSED.search(said):
        reason = refused[1].strip()
        if "expired" in reason or "not yet valid" in reason:
            return (
                f"the server's certificate is refused ({reason}): have the server's renewed, and "
                "see the clocks of both machines"
            )
        return (
            "the server's certificate is not signed by what this client was given for it "
            f"({reason}): {_GIVE}"
        )
    if "ostname" in said or "Peer name" in said:
        host = address.rpartition(":")[0]
        return (
            f"the server's certificate is for other names than {host!r}: call the server by a name "
            "or number that its certificate holds, or have one made whose subjectAltName holds "
            "this one"
        )
    if "WRONG_VERSION_NUMBER" in said:
        return (
            "the server speaks no TLS, which this client does: leave certificate= and "
            "ISOGLOSS_CERTIFICATE out, or start the server with --certificate and --key"
        )
    return ""
