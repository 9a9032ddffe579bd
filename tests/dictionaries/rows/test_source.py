import pytest

from isogloss.dictionaries import Source
from isogloss.errors import UnknownSite
from isogloss.store import RecordingReader


def test_a_source_knows_the_width_of_its_site(recorded: RecordingReader):
    assert Source(reader=recorded, site="encoder.layer.3").width == 32
    with pytest.raises(UnknownSite, match=r"nearest: encoder\.layer\.3"):
        _ = Source(reader=recorded, site="encoder.layer.4").width
