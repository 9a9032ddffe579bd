import torch
from tests.dictionaries.live.planted import WIDTH, random_dictionary

from isogloss.dictionaries import DictionaryModule
from isogloss.dictionaries.live.rewriting import Edits, Spliced


def test_edits_are_in_the_order_of_their_numbers_however_they_were_named() -> None:
    one = Edits.of([9, 2], {30: 1.5, 4: -1.0}, 40)
    two = Edits.of([2, 9], {4: -1.0, 30: 1.5}, 40)
    assert one == two
    assert (one.features, one.values) == ((2, 4, 9, 30), (0.0, -1.0, 0.0, 1.5))


def test_a_feature_that_is_set_to_what_it_is_changes_nothing_much() -> None:
    module = DictionaryModule(random_dictionary("relu_l1"))
    row = torch.randn(1, WIDTH, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        value = float(module.dense(row)[0, 5])
        passes = Spliced(module, Edits.of([], {5: value}, 40), keep_error=True)
        torch.testing.assert_close(passes.write(row), row)
        gone = Spliced(module, Edits.of([5], {}, 40), keep_error=True).write(row)
        torch.testing.assert_close(row - gone, value * module.get_parameter("decoder")[5:6])
