"""Batches of the collator: budgets, labels, randomness."""

import copy
import pickle
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch.utils.data import DataLoader

from nmg import MaskingCollator, RateSchedule
from nmg.base.errors import UserError
from nmg.base.types import IGNORED_LABEL, TokenBlocks
from nmg.data.cutting import cut_texts
from nmg.masking.base import Rule, choose, position_noise
from support.families import FAMILIES, SCRIPTS, family

TOKENIZER = family("WordPiece")
SPECIAL = {TOKENIZER.cls_token_id, TOKENIZER.sep_token_id, TOKENIZER.pad_token_id}


def rows(n: int = 12) -> list[dict[str, list[int]]]:
    return [dict(TOKENIZER(SCRIPTS[i % len(SCRIPTS)])) for i in range(n)]


def collate(**options: Any) -> MaskingCollator:
    return MaskingCollator(TOKENIZER, **({"masking": "whole-word", "rate": 0.3} | options))


def masked(batch: dict[str, torch.Tensor]) -> list[list[int]]:
    """Positions with a label."""
    return [row.nonzero().flatten().tolist() for row in batch["labels"] != IGNORED_LABEL]


@pytest.mark.parametrize("rate", [0.01, 0.15, 0.5])
def test_every_row_has_its_budget_and_only_masked_tokens_change(rate: float):
    features = rows()
    batch = collate(rate=rate)(features)
    assert set(batch) == {"input_ids", "attention_mask", "token_type_ids", "labels"}
    for feature, ids, labels, is_token, places in zip(
        features, batch["input_ids"], batch["labels"], batch["attention_mask"], masked(batch), strict=True
    ):
        original = torch.tensor(feature["input_ids"])
        n = len(original)
        assert is_token.tolist() == [1] * n + [0] * (len(ids) - n)
        assert len(places) == max(1, int((n - 2) * rate + 1e-9))
        assert torch.equal(labels[places], original[places])
        assert not SPECIAL & set(labels[places].tolist())
        kept = [i for i in range(n) if i not in places]
        assert torch.equal(ids[kept], original[kept])
        assert (ids[n:] == TOKENIZER.pad_token_id).all()


def test_the_same_seed_gives_the_same_masks_and_the_next_batch_others():
    first, again, other = collate(seed=1), collate(seed=1), collate(seed=2)
    batches = [one(rows()) for one in (first, again, other, first)]
    assert torch.equal(batches[0]["input_ids"], batches[1]["input_ids"])
    assert masked(batches[0]) != masked(batches[2])
    assert masked(batches[0]) != masked(batches[3])


def test_no_generator_of_torch_or_numpy_is_touched():
    state, numpy_state = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    collate()(rows())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)


def epochs(collator: MaskingCollator, workers: int, n: int = 2, batch_size: int = 2) -> list[list[list[int]]]:
    """What `n` epochs of a loader mask of one text, again and again."""
    loader = DataLoader([rows(1)[0]] * 8, batch_size=batch_size, collate_fn=collator, num_workers=workers)
    return [[places for batch in loader for places in masked(batch)] for _ in range(n)]


def test_workers_have_streams_of_their_own_and_a_seed_gives_the_same_epochs():
    first, second = epochs(collate(masking="random"), workers=2)
    assert len({tuple(places) for places in first}) > 4, "no two workers, and no two batches, draw alike"
    assert first != second
    assert [first, second] == epochs(collate(masking="random"), workers=2)


def test_a_loader_that_was_left_early_does_not_change_the_next_epoch():
    collator = collate(masking="random")
    next(iter(DataLoader(rows(8), batch_size=1, collate_fn=collator, num_workers=1)))
    again = collate(masking="random")
    next(iter(DataLoader(rows(2), batch_size=1, collate_fn=again, num_workers=1)))
    assert epochs(collator, workers=1) == epochs(again, workers=1)


def test_a_collator_goes_through_pickle():
    collator = collate()
    copy = pickle.loads(pickle.dumps(collator))
    assert torch.equal(collator(rows())["input_ids"], copy(rows())["input_ids"])


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda collator: pickle.loads(pickle.dumps(collator))])
def test_a_copy_draws_other_masks_in_every_epoch_too(copied: Any):
    first, second = epochs(copied(collate(masking="random")), workers=2)
    assert first != second
    assert [first, second] == epochs(collate(masking="random"), workers=2)


def test_fixed_masks_depend_on_seed_and_row_alone():
    def seen(workers: int, batch_size: int, seed: int = 0) -> list[tuple[list[int], list[int]]]:
        loader = DataLoader(
            rows(), batch_size=batch_size, collate_fn=collate(fixed=True, seed=seed), num_workers=workers
        )
        return [
            (ids[is_token == 1].tolist(), labels[is_token == 1].tolist())
            for _ in range(2)
            for batch in loader
            for ids, labels, is_token in zip(batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True)
        ]

    expected = seen(0, 1)
    assert expected[:12] == expected[12:]
    assert expected == seen(0, 5) == seen(2, 3)
    assert expected != seen(0, 1, seed=1)


def test_a_data_set_masked_by_another_file_is_not_taken_from_its_cache(tmp_path: Path):
    """`datasets` names what `map` made by the content of the collator, and so by that of the file it has read."""
    file, made = tmp_path / "words.tsv", []
    dataset = Dataset.from_dict({"input_ids": [row["input_ids"] for row in rows()]})
    texts = [SCRIPTS[0].split()[0], SCRIPTS[0].split()[-1]]
    for word in (texts[0], texts[0], texts[1]):
        file.write_text(f"{word}\t50\n", encoding="utf-8")
        collator = collate(masking=str(file))
        made.append(dataset.map(partial(fixed_row, collator=collator), new_fingerprint=None)._fingerprint)
    assert made[0] == made[1] != made[2]


def fixed_row(row: dict[str, Any], collator: MaskingCollator) -> dict[str, Any]:
    return dict(collator.fix([row])[0])


def test_fixed_rows_go_through_a_collator_that_draws():
    drawing = collate()
    fixed = drawing.fix(rows())
    expected = collate(fixed=True)(rows())
    for _ in range(2):
        batch = drawing(fixed)
        assert all(torch.equal(batch[name], expected[name]) for name in expected)


def test_labels_that_are_copies_of_the_ids_are_not_taken_for_masks():
    """What `group_texts` of transformers' examples leaves in a data set."""
    features = [row | {"labels": list(row["input_ids"])} for row in rows()]
    assert torch.equal(collate()(features)["labels"], collate()(rows())["labels"])


@pytest.mark.parametrize("shares", [(0.8, 0.1), (0.5, 0.5), (1.0, 0.0), (0.0, 0.0)])
def test_shares_hold_with_whole_words(shares: tuple[float, float]):
    batch = collate(rate=0.5, mask_replace_prob=shares[0], random_replace_prob=shares[1])(rows(600))
    is_masked = batch["labels"] != IGNORED_LABEL
    is_mask = batch["input_ids"][is_masked] == TOKENIZER.mask_token_id
    is_kept = batch["input_ids"][is_masked] == batch["labels"][is_masked]
    n = int(is_masked.sum())
    for found, expected in ((is_mask, shares[0]), (~is_mask & ~is_kept, shares[1]), (is_kept, 1 - sum(shares))):
        # A random token is the token that was there once in a vocabulary.
        assert abs(float(found.double().mean()) - expected) < 4 * (expected * (1 - expected) / n) ** 0.5 + 1 / 300


@pytest.mark.parametrize("name", FAMILIES)
def test_words_are_masked_whole_in_every_family(name: str):
    tokenizer = family(name)
    features = [tokenizer(text) for text in SCRIPTS]
    batch = MaskingCollator(tokenizer, "whole-word", 0.4)([{"input_ids": one["input_ids"]} for one in features])
    (columns,) = cut_texts(SCRIPTS, tokenizer, 1000)  # a block a text: the words of a corpus
    for words, places in zip(columns["word_index"].to_pylist(), masked(batch), strict=True):
        taken = {words[place] for place in places}
        cut = [word for word in taken if any(words[p] == word and p not in places for p in range(len(words)))]
        assert len(cut) <= 1


def test_words_that_the_data_names_are_the_words():
    ids = TOKENIZER("dose")["input_ids"]
    n = len(ids) - 2
    assert n >= 2
    row = {"input_ids": [ids[0], *ids[1:-1], *ids[1:-1], ids[-1]], "word_ids": [None, *[0] * n, *[0] * n, None]}
    (places,) = masked(collate(masking="whole-word", rate=0.5)([row | {"word_ids": [None, *[0] * n, *[1] * n, None]}]))
    assert places in ([*range(1, n + 1)], [*range(n + 1, 2 * n + 1)])
    (places,) = masked(collate(masking="span", rate=0.5)([row]))
    assert places == [*range(1, n + 1)], "one word of all tokens, cut at the budget"


def test_rows_may_be_texts_lists_or_tensors():
    expected = collate()(rows(3))
    texts = list(SCRIPTS[:3])
    assert torch.equal(collate()(texts)["input_ids"], expected["input_ids"])
    assert torch.equal(collate()([{"text": text} for text in texts])["input_ids"], expected["input_ids"])
    assert torch.equal(collate()([row["input_ids"] for row in rows(3)])["input_ids"], expected["input_ids"])
    tensors = [{name: torch.tensor(values) for name, values in row.items()} for row in rows(3)]
    assert torch.equal(collate()(tensors)["input_ids"], expected["input_ids"])
    assert collate(max_length=6)(texts)["input_ids"].shape == (3, 6)
    with pytest.raises(UserError, match="neither input_ids nor text"):
        collate()([{"words": "aspirin"}])
    with pytest.raises(UserError, match="word_ids of a row has 1 entries, but input_ids has 3"):
        collate()([{"input_ids": [2, 50, 3], "word_ids": [0]}])


def test_rows_that_are_padded_already_and_padding_to_a_multiple():
    padded = [dict(TOKENIZER(text, padding="max_length", max_length=60)) for text in SCRIPTS[:3]]
    batch = collate(masking="random", rate=0.3)(padded)
    for text, places in zip(SCRIPTS[:3], masked(batch), strict=True):
        n = len(TOKENIZER(text)["input_ids"]) - 2
        assert len(places) == int(n * 0.3 + 1e-9)
        assert max(places) <= n
    assert collate(pad_to_multiple_of=16)(rows(3))["labels"].shape[1] % 16 == 0


def test_a_rate_that_moves():
    row = {"input_ids": [TOKENIZER.cls_token_id, *[50] * 100, TOKENIZER.sep_token_id]}
    collator = MaskingCollator(TOKENIZER, "random", RateSchedule(0.30, 0.15, steps=4))
    assert [len(masked(collator([row]))[0]) for _ in range(6)] == [30, 25, 20, 15, 15, 15]
    with_workers = MaskingCollator(TOKENIZER, "random", RateSchedule(0.30, 0.15, steps=4))
    loader = DataLoader([row] * 2, batch_size=1, collate_fn=with_workers, num_workers=2)
    assert [len(masked(batch)[0]) for _ in range(2) for batch in loader] == [30, 25, 20, 15]


def test_a_masking_of_your_own():
    def from_the_left(blocks: TokenBlocks, rate: float, rng: np.random.Generator) -> Any:
        return choose(position_noise(blocks, rng) - torch.arange(blocks.input_ids.shape[1]), blocks, rate)

    batch = collate(masking=Rule("left", from_the_left), rate=0.2)(rows(3))
    assert all(places == list(range(1, len(places) + 1)) for places in masked(batch))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"masking": "idff"}, "did you mean 'idf'"),
        ({"masking": "pmi"}, "counts words in text"),
        ({"masking": "loss"}, "reads the language model"),
        ({"masking": 7}, "not a int"),
        ({"masking": "0.5*idf+x*random"}, "a mixture is written"),
        ({"masking": "idf", "idf_unit": "word"}, "counts words in text"),
        ({"rate": 1.5}, "rate"),
        ({"rate": "0.15"}, "rate: must be a number between 0 and 1, not '0.15'"),
        ({"rate": None}, "rate: must be a number"),
        ({"rate_schedule": "linear"}, "RateSchedule"),
        ({"seed": -1}, "seed: must be a whole number ≥ 0, not -1"),
        ({"seed": "1"}, "seed: must be"),
        ({"max_length": 0}, "max_length: must be a whole number ≥ 1"),
        ({"pad_to_multiple_of": 2.5}, "pad_to_multiple_of: must be"),
        ({"fixed": "yes"}, "fixed: must be True or False"),
        ({"mask_replace_prob": 0.8, "random_replace_prob": 0.5}, "exceeds 1"),
        ({"mask_shares": 0.8}, "mask_shares"),
        ({"texts": "one text"}, "list of texts"),
        ({"texts": [{"words": 1}]}, "text or input_ids"),
    ],
)
def test_mistakes_are_said_at_once(options: dict[str, Any], message: str):
    with pytest.raises(UserError, match=message):
        collate(**options)


def test_counts_come_from_the_texts_given():
    """What every text holds is not masked where there is something rarer."""
    texts = [". . . !", ". .", "."]
    row = {"input_ids": TOKENIZER(". ! . .")["input_ids"]}
    for given in (texts, [{"text": text} for text in texts], [dict(TOKENIZER(text)) for text in texts]):
        for name, options in (("idf", {"idf_exponent": 60.0}), ("frequency", {"frequency_alpha": 60.0})):
            collator = collate(masking=name, rate=0.25, texts=given, **options)
            assert {tuple(masked(collator([row]))[0]) for _ in range(20)} == {(2,)}


def with_word_labels(row: dict[str, list[int]]) -> dict[str, list[int]]:
    """As for the recognition of entities: classes of words, −100 at special tokens."""
    n = len(row["input_ids"])
    return row | {"labels": [-100, *(place % 3 for place in range(n - 2)), -100]}


def test_rows_with_labels_of_other_tasks_are_masked():
    features = [with_word_labels(row) for row in rows()]
    batch, expected = collate(seed=1)(features), collate(seed=1)(rows())
    assert all(torch.equal(batch[name], expected[name]) for name in expected)
    classes = [row | {"labels": 2, "label": 1} for row in rows()]
    assert torch.equal(collate(seed=1)(classes)["labels"], expected["labels"])


def test_whether_a_row_is_masked_depends_on_that_row_alone():
    drawing = collate()
    fixed, plain = drawing.fix(rows(4)), rows(4)
    expected = collate(fixed=True)(rows(4))
    for batch in (drawing([fixed[0], plain[1], fixed[2], with_word_labels(plain[3])]), drawing([plain[1], fixed[0]])):
        n = batch["labels"].shape[1]
        place = 0 if len(batch["labels"]) == 4 else 1
        assert torch.equal(batch["labels"][place], expected["labels"][0, :n])
        assert torch.equal(batch["input_ids"][place], expected["input_ids"][0, :n])
        assert (batch["labels"] != IGNORED_LABEL).any(dim=1).all()
        assert set(batch) == {"input_ids", "attention_mask", "token_type_ids", "labels"}


def test_a_row_without_token_types_does_not_change_those_of_others():
    with_types = {"input_ids": [2, 9, 9, 3], "token_type_ids": [0, 0, 1, 1]}
    without = {"input_ids": [2, 9, 3]}
    for features, place in (([with_types, without], 0), ([without, with_types], 1)):
        assert collate()(features)["token_type_ids"][place].tolist() == [0, 0, 1, 1]


def test_the_mark_of_fixed_rows_survives_data_sets_pickle_workers_and_streams(tmp_path: Path):
    datasets = pytest.importorskip("datasets")
    drawing = collate(seed=3)
    fixed = drawing.fix(rows(6))
    expected = collate(seed=3, fixed=True)(rows(6))
    table = datasets.Dataset.from_list(fixed)
    table.to_json(tmp_path / "fixed.jsonl")
    read = datasets.load_dataset("json", data_files=str(tmp_path / "fixed.jsonl"), cache_dir=str(tmp_path / "cache"))
    for some in (
        pickle.loads(pickle.dumps(fixed)),
        drawing.fix(fixed),
        table,
        table.with_format("torch"),
        table.to_iterable_dataset(),
        read["train"],
    ):
        for workers in (0, 2) if some is table else (0,):
            loader = DataLoader(some, batch_size=6, collate_fn=drawing, num_workers=workers)
            (batch,) = loader
            assert all(torch.equal(batch[name], expected[name]) for name in expected)


def test_masked_rows_without_their_mark_are_refused():
    """As Trainer leaves them of a data set whose columns it drops, and as `datasets.map(collator)` makes them."""
    for row in collate().fix(rows(3)):
        assert (torch.tensor(row["input_ids"]) == TOKENIZER.mask_token_id).any()
        stripped = {name: values for name, values in row.items() if name != "masked_by_nmg"}
        with pytest.raises(UserError, match="remove_unused_columns=False"):
            collate()([stripped])
    with pytest.raises(UserError, match="no labels"):
        collate()([rows(1)[0] | {"masked_by_nmg": True}])


def test_a_batch_of_columns_is_taken_for_its_rows():
    datasets = pytest.importorskip("datasets")
    texts = list(SCRIPTS[:3])
    expected = collate()(rows(3))
    padded = TOKENIZER(texts, padding=True, return_tensors="pt")
    for batch in (
        TOKENIZER(texts),
        dict(TOKENIZER(texts)),
        padded,
        {"text": texts},
        {"input_ids": padded["input_ids"]},
    ):
        found = collate()(batch)
        assert torch.equal(found["labels"][0], expected["labels"][0])
        assert found["input_ids"].shape == expected["input_ids"].shape
    table = datasets.Dataset.from_dict({"text": texts}).map(collate(), batched=True, remove_columns="text")
    assert table["labels"] == expected["labels"].tolist()
    assert [list(row["labels"]) for row in collate(seed=2).fix(TOKENIZER(texts))] == [
        list(row["labels"]) for row in collate(seed=2).fix(rows(3))
    ]


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ("one text", "a batch: must be a list of texts or rows, not a single text"),
        ({"text": "one text"}, "not a single row"),
        ({"input_ids": [2, 9, 3]}, "not a single row"),
        ({"input_ids": torch.tensor([2, 9, 3])}, "not a single row"),
        (
            {"input_ids": [[2, 3]], "attention_mask": [[1, 1], [1, 1]]},
            "attention_mask has 2 entries, but input_ids has 1",
        ),
        ({"words": [["a"]]}, "must have a column input_ids or text"),
        (7, "not a int"),
    ],
)
def test_what_is_no_batch_is_refused(batch: Any, message: str):
    with pytest.raises(UserError, match=message):
        collate()(batch)
    with pytest.raises(UserError, match=message.replace("a batch", "fix")):
        collate().fix(batch)
    with pytest.raises(UserError, match=message.replace("a batch", "texts")):
        collate(masking="idf", texts=batch)


def test_texts_to_count_words_in_may_be_a_batch_of_columns():
    row = {"input_ids": TOKENIZER(". ! . .")["input_ids"]}
    for texts in (TOKENIZER([". . . !", ". .", "."]), {"text": [". . . !", ". .", "."]}):
        collator = collate(masking="idf", rate=0.25, texts=texts, idf_exponent=60.0)
        assert masked(collator([row])) == [[2]]


def test_the_name_of_a_model_stands_for_its_tokenizer(tmp_path: Path):
    TOKENIZER.save_pretrained(tmp_path)
    for place in (tmp_path, str(tmp_path)):
        batch = MaskingCollator(place, "whole-word", 0.3)(rows())
        assert torch.equal(batch["labels"], collate()(rows())["labels"])


@pytest.mark.parametrize("tokenizer", [None, 3, ["bert"]])
def test_another_tokenizer_is_refused(tokenizer: Any):
    with pytest.raises(UserError, match="tokenizer: must be a tokenizer from transformers, or the name of a model"):
        MaskingCollator(tokenizer)


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("mlm_probability", "MaskingCollator has no argument 'mlm_probability': use rate="),
        ("mlm", "leave it out"),
        ("whole_word_mask", "use masking='whole-word'"),
        ("idf_uni", "did you mean 'idf_unit'?"),
        ("masing", "did you mean 'masking'?"),
        ("zzzz", "known: tokenizer, masking, rate"),
    ],
)
def test_arguments_of_others_and_misspelt_ones(argument: str, said: str):
    with pytest.raises(UserError) as raised:
        MaskingCollator(TOKENIZER, **{argument: 1})
    assert said in str(raised.value)
