"""Token classification: predicts a label for each word of a sentence, to find its entities.

The first token of a word represents the word. A sentence too long for one row gives several rows, cut between words.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from nmg.base.errors import UserError, bad_input
from nmg.base.settings import DataSettings
from nmg.base.training_settings import FinetuneSettings
from nmg.base.types import IGNORED_LABEL, Example, FloatArray, IntArray
from nmg.data.formats.hub import HUB
from nmg.data.formats.tokens import (
    OUTSIDE,
    TokenExample,
    read_conll,
    read_token_records,
    write_conll,
    write_token_records,
)
from nmg.data.framing import SpecialTokens, vocabulary_size
from nmg.data.plausibility import tag_doubts
from nmg.data.words import cut_ends
from nmg.tasks.base import Evaluation, Format, TaskKind, model_with_head, only
from nmg.tasks.entity_metrics import entity_scores, find_entities
from nmg.tasks.rows import RowBuilder, TaskFeatures, TokenColumn

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class TokenFeatures(TaskFeatures):
    """Rows, with the position of each word in its row."""

    places: IntArray
    """int64 [W, 3]: row, column and index in its sentence of each word that has a token, in row order."""


class TokenClassificationTask:
    """Predicts a label for each word; players are compared by `entity_f1`."""

    default_metric = "entity_f1"
    reward_metrics: tuple[str, ...] = ()
    table_metrics: tuple[str, ...] = ("entity_f1", "entity_precision", "entity_recall", "word_accuracy", "loss")
    outputs: tuple[str, ...] = ("logits",)
    outputs_are_per_token = True

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", labels: Sequence[str], settings: FinetuneSettings) -> None:
        self.labels = tuple(labels)
        """Index of a logit → label."""
        self._index = {label: index for index, label in enumerate(labels)}
        self._tokenizer = tokenizer
        self._special = SpecialTokens.of(tokenizer)
        self._room = settings.max_length - len(self._special.prefix) - len(self._special.suffix)

    def encode(self, examples: Sequence[Example]) -> TokenFeatures:
        """Encode the sentences. Raises UserError for a sentence without tokens or a label not seen in training."""
        chosen = only(TokenExample, examples)
        builder = RowBuilder(self._tokenizer)
        before, after = self._special.prefix, self._special.suffix
        example_index: list[int] = []
        places: list[tuple[int, int, int]] = []
        targets: list[IntArray] = []
        for index, (example, (ids, offsets)) in enumerate(zip(chosen, _tokenize(self._tokenizer, chosen), strict=True)):
            words = _first_words(example, offsets)
            gold = self._gold(example)
            start, n_rows = 0, len(example_index)
            for end in cut_ends(words >= 0, self._room):
                columns = np.flatnonzero(words[start:end] >= 0)
                if len(columns):  # otherwise this is the rest of a word that is longer than a row
                    found = words[start:end][columns]
                    columns += len(before)
                    row = [*before, *ids[start:end], *after]
                    target = np.full(len(row), IGNORED_LABEL, dtype=np.int64)
                    target[columns] = gold[found]
                    targets.append(target)
                    places += zip([len(example_index)] * len(found), columns.tolist(), found.tolist(), strict=True)
                    builder.add(row, [0] * len(row))
                    example_index.append(index)
                start = end
            if len(example_index) == n_rows:
                raise UserError(
                    f"example '{example.id}': the tokenizer produces no tokens for '{example.passage[:60]}'. Correct "
                    "or remove the example."
                )
        column = np.concatenate([np.empty(0, dtype=np.int64), *targets]).astype(np.int32)
        return TokenFeatures(
            lengths=builder.lengths,
            example_index=np.array(example_index, dtype=np.int64),
            tokens=builder.tokens,
            targets={},
            token_targets={"labels": TokenColumn(column, IGNORED_LABEL)},
            places=np.array(places, dtype=np.int64).reshape(-1, 3),
        )

    def without_tokens(self, examples: Sequence[Example], /) -> Sequence[Example]:
        """Return the sentences for which the tokenizer produces no tokens."""
        return [example for example, seen in self._seen_words(examples) if not seen]

    def remarks(self, name: str, examples: Sequence[Example], /) -> list[str]:
        """Return a message with the highest possible score if words of entities have no token, or an empty list."""
        gold, reachable, n_lost = [], [], 0
        for example, seen in self._seen_words(examples):
            gold.append(example.labels)
            reachable.append([label if word in seen else OUTSIDE for word, label in enumerate(example.labels)])
            n_lost += sum(label != OUTSIDE for word, label in enumerate(example.labels) if word not in seen)
        if not n_lost:
            return []
        best = entity_scores(gold, reachable).f1
        return [
            f"{name}: the tokenizer drops {n_lost} words that are labelled as part of an entity, so the highest "
            f"possible entity_f1 is {best:.4f}"
        ]

    def _seen_words(self, examples: Sequence[Example]) -> Iterator[tuple[TokenExample, set[int]]]:
        """Yield (example, indices of its words that have a token) for each example."""
        chosen = only(TokenExample, examples)
        for example, (_, offsets) in zip(chosen, _tokenize(self._tokenizer, chosen), strict=True):
            yield example, set(_first_words(example, offsets).tolist()) - {-1}

    def _gold(self, example: TokenExample) -> IntArray:
        """Return int64 [words]: index of each word's label. Raises UserError for a label not seen in training."""
        for label in example.labels:
            if label not in self._index:
                raise UserError(
                    f"example '{example.id}' has the label '{label}', whose type no training example has "
                    f"(known: {', '.join(self.labels)})"
                )
        return np.array([self._index[label] for label in example.labels], dtype=np.int64)

    def new_model(self, config: "PreTrainedConfig", *, trust_remote_code: bool = False) -> "PreTrainedModel":
        from transformers import AutoModelForTokenClassification

        return model_with_head(
            AutoModelForTokenClassification,
            config,
            trust_remote_code=trust_remote_code,
            id2label=dict(enumerate(self.labels)),
            label2id=dict(self._index),
        )

    def evaluate(
        self, outputs: Mapping[str, Tensor], features: TaskFeatures, examples: Sequence[Example]
    ) -> Evaluation:
        """Score the outputs.

        Entities are counted over all sentences (`entity_metrics`). `word_accuracy` is the fraction of words with the
        correct label. `loss` is the mean negative log-likelihood of the words' labels in nats, as in training. A word
        without a token is predicted to be outside of entities, and does not count in the loss.

        Args:
            outputs: `logits`, float32 [F, T, C] on the CPU, in row order.
            features: The encoding of `examples`.
            examples: The examples to score.

        Returns:
            The scores and predictions. `example_scores` is empty, because no score is a mean over examples.

        Raises:
            TypeError: If the features do not come from `encode` of this task.
        """
        if not isinstance(features, TokenFeatures):
            raise TypeError("the features must come from `encode` of this task")
        chosen = only(TokenExample, examples)
        rows, columns, words = features.places.T
        log_probs = outputs["logits"][rows, columns].double().log_softmax(dim=1).numpy()
        predicted = [[OUTSIDE] * len(example.words) for example in chosen]
        for row, word, label in zip(rows, words, log_probs.argmax(axis=1), strict=True):
            predicted[features.example_index[row]][word] = self.labels[label]
        gold_index = [self._gold(example) for example in chosen]
        gold = np.array([gold_index[features.example_index[row]][word] for row, word in zip(rows, words, strict=True)])
        entities = entity_scores([example.labels for example in chosen], predicted)
        pairs = zip(chain.from_iterable(e.labels for e in chosen), chain.from_iterable(predicted), strict=True)
        return Evaluation(
            scores={
                "entity_f1": entities.f1,
                "entity_precision": entities.precision,
                "entity_recall": entities.recall,
                "word_accuracy": float(np.mean([label == guess for label, guess in pairs])),
                "loss": float(-log_probs[np.arange(len(gold)), gold].mean()),
            },
            example_scores={},
            predictions={e.id: " ".join(labels) for e, labels in zip(chosen, predicted, strict=True)},
        )


def _tokenize(
    tokenizer: "PreTrainedTokenizerBase", examples: Sequence[TokenExample]
) -> list[tuple[list[int], IntArray]]:
    """Return the token ids of each sentence, without special tokens, and their offsets in characters, int64 [n, 2]."""
    if not examples:
        return []
    texts = [example.passage for example in examples]
    encoded = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    offsets = (np.array(spans, dtype=np.int64).reshape(-1, 2) for spans in encoded["offset_mapping"])
    return list(zip(encoded["input_ids"], offsets, strict=True))


def _first_words(example: TokenExample, offsets: IntArray) -> IntArray:
    """Return int64 [n]: for each token, the index of the word that it starts; −1 if it starts no word."""
    ends = np.cumsum([len(word) + 1 for word in example.words])  # start of the next word
    starts = ends - [len(word) + 1 for word in example.words]
    is_text = offsets[:, 1] > offsets[:, 0]
    # Use the last character of a token, because the token may include the space before its word.
    words = np.searchsorted(ends, offsets[:, 1] - 1, side="right")
    is_in_word = is_text & (offsets[:, 1] > starts[np.minimum(words, len(starts) - 1)])
    words = np.where(is_in_word, words, -1)
    seen = np.maximum.accumulate(np.concatenate([[-1], words[:-1]])) if len(words) else words
    return np.where(words > seen, words, -1)


def labels(examples: Sequence[Example]) -> list[str]:
    """Return the label set: O, and each entity type that occurs, with every prefix of the scheme.

    All prefixes are included because a sample of sentences may lack some.
    """
    found = {label for example in only(TokenExample, examples) for label in example.labels} - {OUTSIDE}
    prefixes = "BIES" if {label[0] for label in found} & {"E", "S"} else "BI"
    return [OUTSIDE, *(f"{prefix}-{kind}" for kind in sorted({label[2:] for label in found}) for prefix in prefixes)]


def _check_train(examples: Sequence[Example], settings: DataSettings) -> None:
    if len(labels(examples)) == 1:
        raise bad_input(str(settings.train), "contains no entity: every word has the label O")


def _first_type(example: Example) -> str | None:
    entities = find_entities(only(TokenExample, [example])[0].labels)
    return entities[0].type if entities else None


def _read(path: Path, settings: DataSettings, train: Sequence[Example] | None) -> Sequence[Example]:
    known = None if train is None else labels(train)
    return read_token_records(path, settings.text_field, settings.label_field, known)


def _describe(examples: Sequence[TokenExample]) -> list[tuple[str, str]]:
    counts = Counter(entity.type for example in examples for entity in find_entities(example.labels))
    n_words = sum(len(example.words) for example in examples)
    shown = max(examples[:100], key=lambda example: len(find_entities(example.labels)))
    words = (w if label == OUTSIDE else f"{w}/{label}" for w, label in zip(shown.words, shown.labels, strict=True))
    return [
        ("labelled words", str(n_words)),
        (f"{counts.total()} entities", "\n".join(f"{kind}: {count}" for kind, count in counts.most_common()) or "none"),
        ("sample", " ".join(words)),
    ]


PRIOR_TOKENS = 20.0
"""Pseudo-count per token: number of assumed occurrences, with the overall distribution of types."""


def token_relevance(tokenizer: "PreTrainedTokenizerBase", examples: Sequence[TokenExample]) -> FloatArray:
    """Return float [V]: KL divergence (nats) of the types of words that begin with a token from those of all words.

    It is Σ p(type | token) ln(p(type | token) / p(type)), with "outside" as a type. Probabilities are smoothed by
    `PRIOR_TOKENS`.
    """
    numbers = {kind: number for number, kind in enumerate(sorted({label[2:] for label in labels(examples)}))}
    counts = np.zeros((vocabulary_size(tokenizer), len(numbers)))
    for example, (ids, offsets) in zip(examples, _tokenize(tokenizer, examples), strict=True):
        words = _first_words(example, offsets)
        for token, word in zip(ids, words, strict=True):
            if word >= 0:
                counts[token, numbers[example.labels[word][2:]]] += 1
    overall = counts.sum(axis=0) / max(counts.sum(), 1)
    counts, overall = counts[:, overall > 0], overall[overall > 0]  # an entity may have no token
    share = (counts + PRIOR_TOKENS * overall) / (counts.sum(axis=1, keepdims=True) + PRIOR_TOKENS)
    relevance: FloatArray = (share * np.log(share / overall)).sum(axis=1)
    return relevance


def _read_columns(path: Path, settings: DataSettings, train: Sequence[Example] | None) -> Sequence[Example]:
    known = None if train is None else labels(train)
    return read_conll(path, known, settings.word_column, settings.tag_column)


def _doubts(examples: Sequence[TokenExample]) -> list[str]:
    types = [entity.type for example in examples for entity in find_entities(example.labels)]
    return tag_doubts([example.words for example in examples], types)


_CONLL = Format("words in columns, CoNLL", _read_columns, lambda rows, path, _: write_conll(rows, path))
_CONLL_IF_NAMED = replace(_CONLL, needs_task=True)
_TABLE = Format(
    "lists of words and labels",
    _read,
    lambda rows, path, settings: write_token_records(rows, path, settings.text_field, settings.label_field),
)
_ROWS = Format("lists of words and labels", _read)
TOKEN_CLASSIFICATION = TaskKind(
    name="token-classification",
    formats={
        **{".conll": _CONLL, ".bio": _CONLL, ".iob": _CONLL, ".tsv": _CONLL_IF_NAMED, ".txt": _CONLL_IF_NAMED},
        **{".jsonl": _TABLE, ".json": _ROWS, ".parquet": _ROWS, HUB: _ROWS},
    },
    formats_text=".conll, .bio, .iob, .tsv, .txt, .jsonl, .json or .parquet",
    owns=lambda record: sum(isinstance(value, list) for value in record.values()) > 1,
    check_train=_check_train,
    label_of=_first_type,
    few_labels="labelled_examples",
    few_labels_text="",
    build=lambda tokenizer, examples, settings: TokenClassificationTask(tokenizer, labels(examples), settings),
    relevance=token_relevance,
    describe=_describe,
    doubts=_doubts,
)
