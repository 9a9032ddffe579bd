"""What a process sends to prove that it sees a store's files."""

import itertools

from isogloss.service.values.direct_proof import is_secret, make_proof, new_secret


def test_a_secret_has_its_shape_and_nothing_else_has_it() -> None:
    secret = new_secret()
    assert is_secret(secret)
    assert new_secret() != secret
    for wrong in (b"", secret[:-1], secret + b"\n", secret + b"x", secret[:-1] + b"\xff"):
        assert not is_secret(wrong)


def test_a_proof_is_for_one_secret_one_recording_and_its_producers() -> None:
    one, two = new_secret(), new_secret()
    asked = [("a", ["b", "c"]), ("a", ["bc"]), ("ab", ["c"]), ("a", ["c", "b"]), ("a", [])]
    said = [make_proof(secret, name, given) for secret in (one, two) for name, given in asked]
    assert all(a != b for a, b in itertools.combinations(said, 2))
    assert make_proof(one, "a", ["b", "c"]) == said[0]
    assert one.decode() not in said[0]
