"""Padding masks of every form."""

import pytest
import torch
from torch import Tensor
from transformers import BertConfig, BertModel

from isogloss.errors import InvalidInput, ShapeError
from isogloss.models.passes.inputs import Arguments
from isogloss.models.passes.masks import has_mask, kept_tokens, own_masks

IDS = torch.tensor([[5, 6, 7, 8, 9], [5, 6, 7, 0, 0], [0, 0, 5, 6, 7]])
KEEP = IDS != 0
FAR = torch.finfo(torch.float32).min
CAUSAL = torch.ones(5, 5, dtype=torch.bool).tril()


def kept(
    mask: object,
    name: str = "attention_mask",
    *,
    ids: Tensor = IDS,
    before: int | None = None,
    pad_id: int | None = None,
) -> tuple[list[list[bool]], int]:
    named = {} if mask is None else {name: mask}
    found = kept_tokens(Arguments(named=named, ids_by_name=True), ids, before=before, pad_id=pad_id)
    return found.keep.tolist(), found.before


def additive(allowed: Tensor, far: float = FAR) -> Tensor:
    return torch.zeros(allowed.shape).masked_fill(~allowed, far)


FULL = KEEP[:, None, None, :].expand(-1, 1, 5, -1)
FORMS = {
    "bool": KEEP,
    "integers": KEEP.long(),
    "small integers": KEEP.to(torch.uint8),
    "floats of 0 and 1": KEEP.float(),
    "half floats": KEEP.half(),
    "additive": additive(KEEP),
    "additive, infinite": additive(KEEP, -float("inf")),
    "additive, 1e4": additive(KEEP, -1e4),
    "extended": KEEP[:, None, None, :],
    "extended, additive": additive(KEEP[:, None, None, :]),
    "square": FULL,
    "square, additive": additive(FULL),
    "of each head": FULL.expand(-1, 4, -1, -1),
    "without heads": FULL[:, 0],
    "causal": FULL & CAUSAL,
    "causal, additive, 1e9": additive(FULL & CAUSAL, -1e9),
    "of integers, causal": (FULL & CAUSAL).long(),
    "of each kind of layer": {"full_attention": FULL & CAUSAL, "sliding_attention": FULL & CAUSAL},
}


@pytest.mark.parametrize("form", FORMS)
def test_a_mask_of_any_form_keeps_the_tokens_and_no_padding(form: str):
    assert kept(FORMS[form]) == (KEEP.tolist(), 0)


def test_rows_that_would_see_nothing_may_be_opened_as_transformers_does():
    allowed = (FULL & CAUSAL).clone()
    allowed |= ~allowed.any(-1, keepdim=True)
    assert allowed[2, 0, 0].all()
    assert kept(additive(allowed)) == (KEEP.tolist(), 0)
    empty = torch.cat([allowed, torch.ones(1, 1, 5, 5, dtype=torch.bool)])
    ids = torch.cat([IDS, torch.zeros(1, 5, dtype=torch.int64)])
    assert kept(empty, ids=ids) == ([*KEEP.tolist(), [False] * 5], 0)


def test_queries_of_padding_may_see_nothing_at_all():
    for pattern in (torch.ones_like(CAUSAL), CAUSAL):
        assert kept(FULL & KEEP[:, None, :, None] & pattern) == (KEEP.tolist(), 0)


def test_one_mask_may_be_given_for_all_sequences():
    assert kept(CAUSAL[None, None]) == (torch.ones_like(KEEP).tolist(), 0)
    one = torch.tensor([True, True, True, False, False])
    assert kept(one, ids=IDS[1:2]) == ([one.tolist()], 0)


def test_torch_marks_padding_where_transformers_marks_tokens():
    for name in ("src_key_padding_mask", "key_padding_mask"):
        assert kept(~KEEP, name) == (KEEP.tolist(), 0)
        assert kept(additive(KEEP), name)[0] == KEEP.tolist()  # torch adds numbers


def test_a_mask_whose_name_says_nothing_is_believed_where_the_padding_agrees():
    for name in ("mask", "padding_mask", "input_mask", "pad_mask"):
        for mask in (KEEP, ~KEEP):
            assert kept(mask, name, pad_id=0) == (KEEP.tolist(), 0)
            with pytest.raises(InvalidInput, match=f"{name} marks tokens or padding .* give att"):
                kept(mask, name)
            with pytest.raises(InvalidInput, match="not known"):
                kept(mask, name, pad_id=9)
        assert kept(torch.ones_like(IDS), name) == (torch.ones_like(KEEP).tolist(), 0)
        assert kept(torch.zeros_like(IDS), name) == (torch.ones_like(KEEP).tolist(), 0)


def test_a_mask_longer_than_the_ids_is_of_a_continuation():
    longer = torch.cat([torch.ones(3, 4, dtype=torch.bool), KEEP], 1)
    assert kept(longer) == (KEEP.tolist(), 4)
    allowed = longer[:, None, None, :] & torch.ones(5, 9, dtype=torch.bool).tril(4)
    assert kept(allowed) == (KEEP.tolist(), 4)
    static = torch.cat([allowed, torch.zeros(3, 1, 5, 3, dtype=torch.bool)], -1)
    assert kept(static, before=4) == (KEEP.tolist(), 4)


def test_what_hides_more_than_padding_is_refused_with_a_remedy():
    packed = torch.block_diag(torch.ones(2, 2), torch.ones(3, 3)).bool()
    window = CAUSAL & ~torch.ones(5, 5, dtype=torch.bool).tril(-3)
    prefix = CAUSAL.clone()
    prefix[:2, :2] = True
    early = torch.block_diag(torch.ones(1, 1), torch.ones(4, 4)).bool()
    for allowed in (packed, packed & CAUSAL, early, early & CAUSAL, window, prefix):
        with pytest.raises(InvalidInput, match=r"hides more than padding.*give attention_mask"):
            kept(additive(allowed.expand(3, 1, 5, 5)))
    of_one_head = FULL.repeat(1, 2, 1, 1)
    of_one_head[:, 1] &= CAUSAL
    with pytest.raises(InvalidInput, match="differs between heads"):
        kept(of_one_head)


def test_numbers_that_are_no_mask_are_refused():
    with pytest.raises(InvalidInput, match="from 1 to 2, such as of packed"):
        kept(torch.tensor([[1, 1, 2, 2, 2]] * 3))
    with pytest.raises(InvalidInput, match="biases"):
        kept(-torch.arange(75.0).reshape(3, 1, 5, 5))
    with pytest.raises(InvalidInput, match="is a str, which is not read"):
        kept("causal")


def test_a_mask_that_does_not_fit_is_refused():
    wrong = (KEEP[:2], KEEP[:, :4], FULL[:2], FULL[:, :, :3], FULL[..., :3], KEEP[0])
    for mask in wrong:
        with pytest.raises(ShapeError, match=r"does not fit the token ids \[3, 5\]"):
            kept(mask)
    with pytest.raises(ShapeError, match="does not fit"):
        kept(FULL, "key_padding_mask")


def test_without_a_mask_runs_of_padding_at_the_ends_are_left_out():
    ids = torch.tensor([[0, 5, 0, 6, 0], [0, 0, 0, 0, 0]])
    assert kept(None, ids=ids, pad_id=0)[0] == [[False, True, True, True, False], [True] * 5]
    assert kept(None, ids=ids)[0] == [[True] * 5] * 2
    assert not has_mask(Arguments(named={"attention_mask": None}, ids_by_name=True))


@pytest.mark.parametrize("causal", [True, False])
def test_the_mask_that_transformers_makes_of_padding_says_the_same(causal: bool):
    seen: list[Tensor] = []
    config = BertConfig(
        vocab_size=60, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, is_decoder=causal,
    )  # fmt: skip
    model = BertModel(config, add_pooling_layer=False).eval()
    model.set_attn_implementation("eager")
    model.encoder.layer[0].register_forward_pre_hook(
        lambda module, args, kwargs: seen.extend(
            value for value in (*args, *kwargs.values())
            if isinstance(value, Tensor) and value.ndim == 4
        ),
        with_kwargs=True,
    )  # fmt: skip
    with torch.no_grad():
        model(input_ids=IDS, attention_mask=KEEP.long())
    assert seen
    assert kept(seen[0]) == (KEEP.tolist(), 0)


@pytest.mark.parametrize("name", ["src_key_padding_mask", "key_padding_mask"])
def test_an_added_mask_means_the_same_under_every_name(name: str):
    assert kept(additive(KEEP, -float("inf")), name)[0] == KEEP.tolist()
    assert kept(torch.zeros(3, 5), name)[0] == torch.ones_like(KEEP).tolist()
    assert kept((~KEEP).float(), name)[0] == KEEP.tolist()


def test_zeros_that_may_be_added_or_all_padding_are_refused():
    with pytest.raises(InvalidInput, match="zeros alone"):
        kept(torch.zeros(3, 5))
    assert kept(torch.zeros(3, 5, dtype=torch.int64))[0] == torch.zeros_like(KEEP).tolist()


def test_a_mask_that_keeps_nothing_but_padding_is_refused():
    hides = (~KEEP)[:, None, None, :]
    with pytest.raises(InvalidInput, match="True seems to hide"):
        kept(hides[1:2], ids=IDS[1:2], pad_id=0)


def test_a_mask_as_long_as_a_cache_will_ever_be_is_read_where_the_ids_lie():
    mask = torch.zeros(1, 8, dtype=torch.int64)
    mask[:, :3] = 1
    ids = torch.tensor([[5, 6, 7]])
    assert kept(mask, ids=ids, before=0) == ([[True] * 3], 0)
    mask[:, 3] = 1
    assert kept(mask, ids=ids[:, :1], before=3) == ([[True]], 3)


def named(**masks: object) -> Arguments:
    ids = {"src": torch.ones(2, 3).long(), "tgt": torch.ones(2, 3).long()}
    return Arguments(named={**ids, **masks}, ids_by_name=False)


ODD = torch.tensor([[1, 1, 0], [1, 0, 0]])


@pytest.mark.parametrize(
    ("name", "as_src", "as_tgt"),
    [
        ("src_key_padding_mask", "key_padding_mask", None),
        ("tgt_key_padding_mask", None, "key_padding_mask"),
        ("target_padding_mask", None, "padding_mask"),
        ("decoder_attention_mask", None, "attention_mask"),
        ("tgt_mask", None, "mask"),
        ("memory_key_padding_mask", None, None),
    ],
)
def test_a_mask_is_of_the_ids_whose_name_it_bears(
    name: str, as_src: str | None, as_tgt: str | None
) -> None:
    for ids, wanted in (("src", as_src), ("tgt", as_tgt)):
        found = own_masks(named(**{name: ODD}), ids, (2, 3)).named
        assert {key for key in found if "mask" in key} == ({wanted} if wanted else set())


def test_a_mask_without_a_name_is_of_the_ids_it_fits_or_refused() -> None:
    with pytest.raises(InvalidInput, match="of which token ids attention_mask"):
        own_masks(named(attention_mask=ODD), "src", (2, 3))
    all_kept = named(attention_mask=torch.ones(2, 3))
    assert "attention_mask" in own_masks(all_kept, "tgt", (2, 3)).named
    longer = named(src=torch.ones(2, 5).long(), attention_mask=torch.ones(2, 5).triu())
    assert "attention_mask" not in own_masks(longer, "tgt", (2, 3)).named
    assert "attention_mask" in own_masks(longer, "src", (2, 5)).named
    alone = Arguments(named={"words": ODD, "src_key_padding_mask": ODD}, ids_by_name=False)
    assert "src_key_padding_mask" in own_masks(alone, "words", (2, 3)).named


def test_a_mask_of_queries_and_keys_is_no_padding_mask() -> None:
    square = torch.ones(3, 3).tril().bool()
    assert "mask" not in own_masks(named(tgt_mask=square), "tgt", (2, 3)).named
    with pytest.raises(InvalidInput, match="of sequences and tokens, or of queries and keys"):
        own_masks(named(tgt_mask=square), "tgt", (3, 3))
