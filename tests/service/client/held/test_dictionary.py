"""The passport travels with the weights, and is compared where rows and models come together."""

import json
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.dictionaries.live.tiny_gpt import SITE, tiny_gpt
from tests.dictionaries.passport.passports import passport_of, random_dictionary, recording_spec
from tests.service.placed import place
from tests.service.serving import server_on

import isogloss
from isogloss import Client
from isogloss.errors import InvalidInput, NotFound, PassportRefused
from isogloss.store import Store

MADE = random_dictionary()


@pytest.fixture(scope="module", params=["in process", "server"])
def client(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Client]:
    path = tmp_path_factory.mktemp("passports") / "store"
    own, other = recording_spec(), replace(recording_spec(1), recording="other")
    with Store.open(path) as store:
        passport = passport_of(MADE, norms=(3.0,))
        place(store, MADE, site=SITE, passport=passport, spec=own)
        store.create_recording(other, ["x"])
        place(store, MADE, "stranger", passport=passport_of(random_dictionary(seed=9)))
        uid = place(store, MADE, "edited", passport=passport_of(MADE))
        written = store.artifact("dictionary", uid) / "dictionary.json"
        body = json.loads(written.read_text())
        body["settings"]["k"] = 9
        written.write_text(json.dumps(body))
    if request.param == "server":
        with (
            server_on(path) as server,
            isogloss.connect(server.addresses[0], timeout_s=200) as found,
        ):
            yield found
    else:
        with isogloss.connect(path, run_workers=False) as found:
            yield found


def test_the_passport_comes_with_the_weights(client: Client) -> None:
    held = client.dictionary("d")
    assert held.passport is not None
    assert held.passport.sites == (SITE,)
    assert held.check(tiny_gpt(), SITE).answer == "same"
    with pytest.raises(PassportRefused, match="the model is not tiny"), held.spliced(tiny_gpt(1)):
        pass


def test_weights_under_the_passport_of_others_are_refused(client: Client) -> None:
    rows = torch.zeros(1, 12)
    with pytest.raises(PassportRefused, match="'encoder' holds other numbers"):
        client.dictionary("stranger")
    with pytest.raises(PassportRefused, match="'encoder' holds other numbers"):
        client.encode("stranger", rows)
    with pytest.raises(PassportRefused, match="k is 9, the passport says 5"):
        client.encode("edited", rows)
    with pytest.raises(PassportRefused, match="k is 9, the passport says 5"):
        client.nearest(direction=np.ones(12), model="edited-docs", among=["edited"])


def test_rows_of_another_recording_are_refused_by_name(client: Client) -> None:
    rows = torch.randn(16, 12, generator=torch.Generator().manual_seed(0))
    wanted = client.encode("d", rows)
    for given in ({"recording": "r"}, {"recording": "r", "site": SITE}):
        found = client.encode("d", rows, **given)
        torch.testing.assert_close(found[0], wanted[0], rtol=0, atol=0)
    with pytest.raises(PassportRefused, match=r"allow=\['model'\]"):
        client.encode("d", rows, recording="other")
    client.encode("d", rows, recording="other", allow=["model"])
    with pytest.raises(PassportRefused, match="median norm"):
        client.encode("d", rows * 100, recording="r")
    with pytest.raises(InvalidInput, match="the parts of a passport"):
        client.encode("d", rows, recording="r", allow=["x"])
    with pytest.raises(NotFound, match="nothing-there"):
        client.encode("d", rows, recording="nothing-there")


def test_it_is_printed_as_a_module_with_its_id(client: Client) -> None:
    assert "'d', " in repr(client.dictionary("d"))
