"""Elements of what modules give."""

from collections import OrderedDict
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from isogloss.errors import InvalidInput
from isogloss.models.elements.containers import element, with_element

A, B = torch.zeros(1), torch.ones(1)


class Pair(NamedTuple):
    first: Tensor
    second: Tensor


CONTAINERS = [(A, B), [A, B], Pair(A, B), OrderedDict(first=A, second=B)]


@pytest.mark.parametrize("output", CONTAINERS, ids=lambda output: type(output).__name__)
def test_an_element_is_found_by_place_and_replaced_in_the_same_container(output: object):
    assert element(output, 1, "site") is B
    new = with_element(output, 1, B + 1)
    assert type(new) is type(output)
    assert element(new, 1, "site").item() == 2
    assert element(new, 0, "site") is A
    assert element(output, 1, "site") is B


def test_an_element_of_a_mapping_is_found_by_key():
    output = {"hidden": A, "weights": B}
    assert element(output, "weights", "site") is B
    assert element(with_element(output, "weights", A), "weights", "site") is A


@pytest.mark.parametrize(("output", "key"), [((A, None), 1), ((A, B), 2), ({"x": A}, "y"), (A, 1)])
def test_no_tensor_there_is_refused_with_what_is(output: object, key: int | str):
    with pytest.raises(InvalidInput, match=f"wants element {key!r}"):
        element(output, key, "site")


def test_none_in_the_place_of_patterns_says_how_to_name_them():
    with pytest.raises(InvalidInput, match=r"heads\.pattern"):
        element((A, None), 1, "site")
