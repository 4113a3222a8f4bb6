"""A comparison: every masking with every seed, each cell run once and kept.

Nothing here chooses by a score. The cells are fixed before the first one runs, scores are only written down, and the
one metric that will be tested is the first of the task's table.
"""

import hashlib
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nmg.compare.cells import CellFolder, CellKey, ComparisonCell, Labelled
from nmg.compare.held_out import HeldOutText
from nmg.compare.learned import policy_digest
from nmg.compare.metered import MeteredMasking
from nmg.compare.plan import Plan, with_labels
from nmg.config import Config
from nmg.data.task_data import distinct_texts, load_corpus_texts, load_task_data
from nmg.inner.adapt import AdaptResult
from nmg.meta_test import MetaTest, SeedData
from nmg.reporter import Reporter
from nmg.setup import check_output


@dataclass(frozen=True)
class CellEvent:
    """One cell is done, was there already, or failed."""

    key: CellKey
    cell: ComparisonCell | None = None
    problem: str | None = None
    was_there: bool = False


OnCell = Callable[[CellEvent], None]


@dataclass(frozen=True)
class Outcome:
    """What a comparison has once every cell was tried."""

    cells: list[ComparisonCell]
    failures: dict[str, str]
    """name of a cell → what went wrong"""


@dataclass(frozen=True)
class Comparison:
    """What all cells share. Made by `prepare`."""

    plan: Plan
    test: MetaTest
    held_out: HeldOutText | None
    folder: CellFolder
    origins: Mapping[str, Mapping[str, str]]
    """masking → digests of all that gives its cells"""
    found: Mapping[CellKey, ComparisonCell]
    """cells of an earlier call"""

    @classmethod
    def prepare(cls, config: Config, plan: Plan, out: Path, reporter: Reporter) -> "Comparison":
        """Read and check everything, see what is there. Raises UserError for anything wrong, before any training."""
        plan.check()
        folder = CellFolder(out)
        if not folder.folder.is_dir():
            check_output(out, "something else than a comparison")
        test = MetaTest.open(config, plan.names, plan.policies, reporter)
        origins = _origins(config, plan, test)
        found = folder.load(plan.keys(), origins)
        test = test.with_head()
        held_out = _held_out_text(test)
        if held_out is None:
            reporter.notify("every text of the test set is in the corpus: there is no masked-LM loss on held-out text")
        return cls(plan, test, held_out, folder, origins, found)

    def run(self, on_cell: OnCell) -> Outcome:
        """Run the cells that are missing. One that fails is written down and does not stop the others."""
        cells: list[ComparisonCell] = []
        failures: dict[str, str] = {}
        for event in self._events():
            if event.cell is not None:
                cells.append(event.cell)
            else:
                failures[event.key.name] = event.problem or ""
            on_cell(event)
        return Outcome(cells, failures)

    def _events(self) -> Iterator[CellEvent]:
        shelf = _Shelf(self.test)
        for keys in self.plan.adaptations():
            yield from (CellEvent(key, self.found[key], was_there=True) for key in keys if key in self.found)
            missing = [key for key in keys if key not in self.found]
            if missing:
                yield from self._run_together(missing, shelf)

    def _run_together(self, keys: Sequence[CellKey], shelf: "_Shelf") -> Iterator[CellEvent]:
        """Cells that share an adaptation: adapt once, then fine-tune and score for each."""
        try:
            adapted = self._adapt(keys[0])
        except Exception as error:
            problem, trace = _describe(error)
            yield from (self._failed(key, problem, trace) for key in keys)
            return
        for key in keys:
            try:
                cell = self._score(key, adapted, shelf)
                cell.check_finite()
            except Exception as error:
                event = self._failed(key, *_describe(error))
            else:
                self.folder.save(cell)
                event = CellEvent(key, cell)
            yield event

    def _adapt(self, key: CellKey) -> "_Adapted":
        policy = MeteredMasking(key.masking, self.test.maskings[key.masking])
        began = time.perf_counter()
        result = self.test.adapt(policy, key.seed, key.setting.adapt_steps)
        adapted = time.perf_counter()
        loss = self.held_out.loss(self.test.lm.model, self.test.runtime) if self.held_out else None
        # All of it: masks may be chosen before the first step.
        seconds = adapted - began if result else 0.0
        return _Adapted(result, policy, loss, seconds, time.perf_counter() - adapted)

    def _score(self, key: CellKey, adapted: "_Adapted", shelf: "_Shelf") -> ComparisonCell:
        data = shelf.take(key.seed, key.setting.labelled)
        scored = self.test.score(key.masking, data, adapted.result)
        seconds = {**scored.seconds, "adapt": adapted.seconds}
        apart = {"masks": adapted.policy.seconds, "held_out": adapted.held_out_seconds}
        return ComparisonCell(
            masking=key.masking,
            seed=key.seed,
            scores=scored.scores,
            lm_loss=scored.lm_loss if scored.lm_steps else None,  # NaN without a step
            lm_steps=scored.lm_steps,
            task_steps=scored.task_steps,
            masked_tokens=scored.masked_tokens,
            seconds={**seconds, "total": sum(seconds.values()), **apart},
            labelled=key.setting.labelled,
            adapt_steps=key.setting.adapt_steps,
            n_labelled=len(data.train.examples),
            tokens=adapted.result.tokens if adapted.result else 0,
            held_out_loss=adapted.held_out_loss,
            origin=self.origins[key.masking],
        )

    def _failed(self, key: CellKey, problem: str, trace: str) -> CellEvent:
        self.folder.save_error(key, trace)
        return CellEvent(key, problem=problem)


@dataclass(frozen=True)
class _Adapted:
    """What the cells of one adaptation share; its weights are those of the working copy."""

    result: AdaptResult | None
    policy: MeteredMasking
    held_out_loss: float | None
    seconds: float
    held_out_seconds: float


class _Shelf:
    """Training and test sets of the seed at work, read when first asked for."""

    def __init__(self, test: MetaTest) -> None:
        self._test = test
        self._last: SeedData | None = None
        self._of_seed: dict[Labelled, SeedData] = {}

    def take(self, seed: int, labelled: Labelled) -> SeedData:
        if self._last is not None and self._last.seed != seed:
            self._of_seed.clear()
        if labelled not in self._of_seed:
            settings = with_labels(self._test.config, labelled)
            self._last = SeedData.load(settings, self._test.lm.tokenizer, seed, self._last)
            self._of_seed[labelled] = self._last
        return self._of_seed[labelled]


def _describe(error: Exception) -> tuple[str, str]:
    """One line for the user, and the traceback."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}", "".join(traceback.format_exception(error))


def _held_out_text(test: MetaTest) -> HeldOutText | None:
    """From the whole test set, also where cells are scored on a sample of it."""
    data = load_task_data(test.config.data.model_copy(update={"test_examples": None}), test.config.run.seed)
    adapted_on = load_corpus_texts(test.config.data)
    return HeldOutText.build(test.config, test.lm, distinct_texts(data.test or ()), adapted_on)


def _origins(config: Config, plan: Plan, test: MetaTest) -> dict[str, dict[str, str]]:
    data, model = hashlib.sha256(test.corpus.digest.encode()), hashlib.sha256()
    for file in (config.data.train, config.data.test):
        content = Path(str(file)).expanduser().read_bytes()
        data.update(len(content).to_bytes(8, "little") + content)
    for name, tensor in test.pretrained.items():
        model.update(name.encode())
        model.update(tensor.cpu().numpy().tobytes())
    common = {"settings": config.digest, "data": data.hexdigest()[:16], "model": model.hexdigest()[:16]}
    return {
        name: common | {"masking": policy_digest(plan.learned[name]) if name in plan.learned else name}
        for name in plan.names
    }
