from dataclasses import replace

import numpy as np
from tests.dictionaries.conftest import SITE

from isogloss.dictionaries import Source, SparseDictionary, check_weights, make_passport
from isogloss.store import RecordingReader


def test_a_passport_says_what_the_recording_says(
    recorded: RecordingReader, sources: list[Source], autoencoder: SparseDictionary
) -> None:
    passport = make_passport(autoencoder, sources)
    assert (passport.sites, passport.widths, passport.dtype) == ((SITE,), (32,), "bfloat16")
    assert (passport.model, passport.tokenizer) == ("none", "numbers")
    assert (passport.begins, passport.weights) == (None, {})  # the recording does not tell
    assert passport.activation == {"k": 5, "features": 40}
    rows = recorded.read(SITE, 0, recorded.rows).astype(np.float32)
    norm = passport.norms[0]
    assert norm is not None
    assert abs(norm / np.median(np.linalg.norm(rows, axis=1)) - 1) < 0.05
    assert check_weights(passport, autoencoder).answer == "same"
    moved = {**autoencoder.tensors, "decoder_bias": autoencoder.tensors["decoder_bias"] + 1}
    assert check_weights(passport, replace(autoencoder, tensors=moved)).answer == "other"
