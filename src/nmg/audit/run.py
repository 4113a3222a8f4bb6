"""An audit on disk: which plays are made, and what they come to. It ends in a recommendation, before any long work.

DIR/plays.jsonl       one line per play, whole or not there; a second call goes on
DIR/audit.json        all findings
DIR/recommended.yaml  the configuration that follows from them
DIR/index.html        the page
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nmg.audit.findings import (
    Adaptation,
    RewardFinding,
    Schedule,
    adaptation,
    full_score,
    possible_gain,
    rewards,
    spread_of,
    table_of,
)
from nmg.audit.plays import MAX_FEATURES, AuditBench, AuditOpener, Played, PlayKey
from nmg.audit.recommend import recommend
from nmg.config import Config
from nmg.data.overlap import overlap, say_overlaps
from nmg.engines.base import Engine
from nmg.engines.registry import check_alone, open_engine
from nmg.errors import UserError, bad_input
from nmg.files import append_line, as_json, write_text
from nmg.inner.lm_quality import held_out_loss, unigram_entropy
from nmg.reporter import Reporter, Silent
from nmg.runs.inputs import check_origin
from nmg.runs.outputs import sole_writer
from nmg.seeding import StreamName
from nmg.tasks.load import load_corpus_texts

PILOT_STEPS, LEAST_STEPS, MAX_STEPS = 10, 20, 200
"""of an adaptation in an audit"""
PILOT_EXAMPLES, LEAST_EXAMPLES = 100, 100
"""of a fine-tuning"""
SHORTER, FASTER = 3, 3.0
"""the schedules tried beside the one of the settings: a third of the steps, three times the learning rate"""
RULES = ("random", "idf-5", "whole-word", "idf-2", "idf-10")
FEW_RULES = RULES[:2]
"""where the minutes do not reach for all"""
FEWEST, MOST = 4, 16
"""random directions, as many as the minutes allow"""

OnPlay = Callable[[Played, int, int], None]
"""a play, how many are done, and how many there will be"""


@dataclass(frozen=True)
class AuditResult:
    config: Config
    facts: dict[str, Any]
    """as in audit.json"""
    recommended: Config
    plays: Sequence[Played]
    adaptation: Adaptation
    rewards: Sequence[RewardFinding]


def audit(
    config: Config,
    out: Path,
    *,
    seeds: int = 3,
    minutes: float = 10.0,
    reporter: Reporter | None = None,
    on_play: OnPlay = lambda _play, _done, _in_all: None,
) -> AuditResult:
    """Find out whether there is anything to learn, in about so many minutes. Raises UserError for bad settings or data.

    The test set is not read.
    """
    check_alone("audit")
    with sole_writer(out):
        return _audit(config, out, seeds, minutes, reporter or Silent(), on_play)


def _audit(config: Config, out: Path, seeds: int, minutes: float, reporter: Reporter, on_play: OnPlay) -> AuditResult:
    done = _read_plays(out / "plays.jsonl")
    bench = AuditBench.open(config, reporter)
    config = config.model_copy(update={"runtime": bench.config.runtime})
    for play in done.values():
        check_origin(out, "plays.jsonl", play.origin, bench.origin_of(play.key.masking))
    facts = {"lm": _language_model(bench), "leakage": _leakage(bench, reporter)}
    n_parameters = bench.bench.lm.model.num_parameters()
    at_once = bench.bench.runtime.threads
    with open_engine(config.runtime, bench, AuditOpener(config), at_once, n_parameters) as engine:
        player = _Player(engine, out / "plays.jsonl", done, bench.origin_of, on_play)
        budget = Budget(60 * minutes * engine.processes, seeds)
        pilot = _pilot(bench)
        player.play([pilot], budget.fewest)
        n_examples = budget.examples(player.of([pilot])[0], len(bench.train.examples))
        n_steps = budget.steps(player.of([pilot])[0], n_examples, _all_steps(bench))
        first = _schedules(bench, range(seeds), n_steps, n_examples)
        player.play(first, budget.fewest)
        metric = bench.bench.task.table_metrics[0]
        adapting = adaptation(player.of(first), metric)
        second = _maskings(adapting.best, range(seeds), budget.maskings(player.of(first)), n_examples)
        player.play(second, len(first) + len(second))
    plays = player.of([*first, *second])
    facts["examples"] = {"used": n_examples, "labelled": len(bench.train.examples)}
    facts["steps"] = {"most": n_steps, "wanted": _all_steps(bench)}
    return _conclude(config, out, facts, adapting, plays, second, metric, bench.steps_an_epoch)


def _conclude(
    config: Config,
    out: Path,
    facts: dict[str, Any],
    adapting: Adaptation,
    plays: Sequence[Played],
    second: Sequence[PlayKey],
    metric: str,
    steps_an_epoch: int,
) -> AuditResult:
    """Findings, recommendation, files."""
    best = adapting.best
    at_best = [p for p in plays if p.key in set(second) or _is_at(p.key, best) or p.key.masking == "none"]
    found = rewards(at_best, metric)
    names, table = table_of(
        [play for play in at_best if play.key.masking != "none"], lambda play: full_score(play, metric)
    )
    spread = spread_of(table)
    facts |= {
        "adaptation": asdict(adapting),
        "maskings": {
            "metric": metric,
            "mean": {name: float(row.mean()) for name, row in zip(names, table, strict=True)},
            "between": spread.between,
            "between_high": spread.between_high,
            "possible_gain": possible_gain(spread, len(MAX_FEATURES)),
            "noise": spread.noise,
            "p": spread.p,
            "seeds": spread.seeds,
        },
        "rewards": [one.to_json() for one in found],
    }
    recommended, sentence = recommend(config, facts, adapting, found, steps_an_epoch)
    facts["recommendation"] = sentence
    write_text(out / "audit.json", as_json(facts, indent=1) + "\n")
    write_text(out / "recommended.yaml", recommended.to_yaml())
    return AuditResult(config, facts, recommended, plays, adapting, found)


def _is_at(key: PlayKey, best: Schedule) -> bool:
    return key.masking == "random" and (key.steps, key.learning_rate) == (best.steps, best.learning_rate)


class _Player:
    """Plays what is missing, and keeps each play as soon as it is done."""

    def __init__(
        self,
        engine: Engine,
        path: Path,
        done: dict[PlayKey, Played],
        origin_of: Callable[[str], Mapping[str, str]],
        on_play: OnPlay,
    ) -> None:
        """`origin_of`: masking → digests of all that gives its plays."""
        self._engine, self._path, self._done, self._origin_of, self._on_play = engine, path, done, origin_of, on_play

    def play(self, keys: Sequence[PlayKey], in_all: int) -> None:
        missing = [key for key in keys if key not in self._done]
        for _, found in self._engine.play(None, missing):
            played = replace(found, origin=self._origin_of(found.key.masking))
            append_line(self._path, as_json(played.to_json()))
            self._done[played.key] = played
            self._on_play(played, len(self._done), max(in_all, len(self._done)))

    def of(self, keys: Sequence[PlayKey]) -> list[Played]:
        """Those whose trainings ended well. Raises UserError where none did."""
        plays = [self._done[key] for key in keys]
        if all(play.diverged for play in plays):
            raise UserError(f"{plays[0].key.name}: {plays[0].diverged}")
        return [play for play in plays if not play.diverged]


@dataclass(frozen=True)
class Budget:
    """How large an audit may be, by the seconds that plays took; these are kept, so a resumed audit is the same."""

    seconds: float
    """of all processes together"""
    seeds: int

    @property
    def fewest(self) -> int:
        """plays"""
        return 1 + self.seeds * (5 + len(FEW_RULES) - 1 + FEWEST)

    def examples(self, pilot: Played, labelled: int) -> int:
        """Of a fine-tuning: all, or as many as take half of a play's time."""
        an_example = (_cost(pilot) - pilot.seconds["adapt"]) / pilot.key.examples
        return int(np.clip(self.seconds / self.fewest / 2 / an_example, min(LEAST_EXAMPLES, labelled), labelled))

    def steps(self, pilot: Played, n_examples: int, wanted: int) -> int:
        """Of an adaptation: as many as are wanted, or as fit into the rest of a play's time."""
        a_step = pilot.seconds["adapt"] / pilot.key.steps
        others = (_cost(pilot) - pilot.seconds["adapt"]) * n_examples / pilot.key.examples
        return int(np.clip((self.seconds / self.fewest - others) / a_step, min(LEAST_STEPS, wanted), wanted))

    def maskings(self, plays: Sequence[Played]) -> list[str]:
        """Rules and random directions, as many as the rest of the time allows; random has been played already."""
        with_masks = [_cost(play) for play in plays if play.key.masking != "none"]
        left = self.seconds - sum(map(_cost, plays))
        affordable = int(left / (float(np.mean(with_masks)) * self.seeds)) + 1
        rules = RULES if affordable >= len(RULES) + FEWEST else FEW_RULES
        n_directions = min(max(affordable - len(rules), FEWEST), MOST)
        return [*rules, *(f"direction-{n}" for n in range(n_directions))]


def _cost(play: Played) -> float:
    """Seconds of a play."""
    return play.seconds["adapt"] + play.seconds["probe"] + len(play.finetune) * play.seconds["finetune"]


def _all_steps(bench: AuditBench) -> int:
    """Of the adaptation that the settings ask for, within bounds. Raises UserError where there is none."""
    settings = bench.config.adapt
    steps = min(settings.epochs * bench.steps_an_epoch, MAX_STEPS)
    if steps == 0:
        raise UserError("adapt.epochs: an audit needs an adaptation of at least one epoch")
    return steps


def _pilot(bench: AuditBench) -> PlayKey:
    """A short play, to know what plays cost."""
    n_examples = min(PILOT_EXAMPLES, len(bench.train.examples))
    return PlayKey(0, "random", min(PILOT_STEPS, _all_steps(bench)), bench.config.adapt.learning_rate, n_examples)


def _schedules(bench: AuditBench, seeds: Sequence[int], steps: int, n_examples: int) -> list[PlayKey]:
    """No adaptation, and random masks at a few schedules; seeds outermost."""
    settings = bench.config.adapt
    rates = (settings.learning_rate, float(f"{FASTER * settings.learning_rate:.6g}"))  # 6e-4, not 6.000000000000001e-4
    schedules = [(n, rate) for n in dict.fromkeys((max(steps // SHORTER, 1), steps)) for rate in rates]
    keys = []
    for seed in seeds:
        keys.append(PlayKey(seed, "none", steps, settings.learning_rate, n_examples))
        keys += [PlayKey(seed, "random", n, rate, n_examples) for n, rate in schedules]
    return keys


def _maskings(best: Schedule, seeds: Sequence[int], names: Sequence[str], n_examples: int) -> list[PlayKey]:
    """Maskings at the best schedule."""
    return [PlayKey(seed, name, best.steps, best.learning_rate, n_examples) for seed in seeds for name in names]


def _language_model(bench: AuditBench) -> dict[str, Any]:
    """Masked-LM loss on fixed random masks beside what word frequencies alone give."""
    corpus = bench.corpus
    rows = np.linspace(0, len(corpus) - 1, min(len(corpus), 512)).astype(np.int64)
    arena = bench.bench.arena.silent()
    arena.model.load_state_dict(bench.pretrained)
    loss = held_out_loss(arena, corpus, rows, StreamName(0) / "audit" / "lm")
    entropy = unigram_entropy(corpus)
    return {"loss": loss, "unigram_entropy": entropy, "margin": entropy - loss}


def _leakage(bench: AuditBench, reporter: Reporter) -> dict[str, int]:
    """Validation examples that training shows, too; what the corpus shows of them is said alone."""
    held_out = [example.passage for example in bench.validation.examples]
    seen = [example.passage for example in bench.train.examples]
    found = overlap("validation", "train", held_out, seen)
    corpus = load_corpus_texts(bench.config.data) if bench.config.data.corpus is not None else []
    say_overlaps({"validation": held_out, "corpus": corpus}, reporter)
    return {"validation": found.n, "train": len(seen), "twins": found.same, "near": found.near}


def _read_plays(path: Path) -> dict[PlayKey, Played]:
    """The plays of an earlier call; half a last line, which a kill left, is dropped."""
    if not path.is_file():
        return {}
    lines = path.read_bytes().split(b"\n")
    found = {}
    for number, line in enumerate(lines[:-1], start=1):
        try:
            play = Played.from_json(line)
        except ValueError as error:
            raise bad_input(path, "is not a play; remove the line to have it played again", line=number) from error
        found[play.key] = play
    if lines[-1]:
        write_text(path, "".join(line.decode() + "\n" for line in lines[:-1]))
    return found
