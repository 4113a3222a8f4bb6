"""A comparison: every masking with every seed, each cell run once and kept. A meta-test is one with a single setting.

Nothing here chooses by a score. The cells are fixed before the first one runs, scores are only written down, and the
one metric that will be tested is the first of the task's table.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from nmg.comparison.bench import CellBench, CellBenchOpener
from nmg.comparison.cells import Cell, CellEvent, CellFolder, CellKey
from nmg.comparison.learned import policy_digest
from nmg.comparison.plan import Plan
from nmg.config import Config
from nmg.engines.registry import open_engine
from nmg.errors import UserError
from nmg.inner.lm import ModelState
from nmg.policies.registry import load_policy
from nmg.reporter import Reporter
from nmg.workbench import check_output

OnCell = Callable[[CellEvent], None]


@dataclass(frozen=True)
class Finished:
    """What a comparison has once every cell was tried."""

    cells: list[Cell]
    failures: dict[str, str]
    """name of a cell → what went wrong"""


@dataclass(frozen=True)
class Comparison:
    """Made by `prepare`."""

    config: Config
    """the settings as cells run under them"""
    plan: Plan
    bench: CellBench
    found: Mapping[CellKey, Cell]
    """cells of an earlier call"""

    @classmethod
    def prepare(
        cls, config: Config, plan: Plan, out: Path, reporter: Reporter, *, save_models: bool = False
    ) -> "Comparison":
        """Read and check everything, see what is there. Raises UserError for anything wrong, before any training.

        `save_models`: keep the adapted LMs of the first seed in `out`/models.
        """
        folder = CellFolder(out)
        if not folder.folder.is_dir():
            check_output(out, "something else than a comparison")
        for policy in plan.learned.values():
            load_policy(policy)
        config = config.for_meta_test()
        if config.data.test is None:
            raise UserError("data.test: a comparison needs a test set: --data.test FILE")
        bench = CellBench.open(config, plan, folder, reporter, save_models=save_models)
        bench = replace(bench, origins=_origins(config, plan, bench.corpus.digest, bench.pretrained))
        found = {key: cell for key, cell in folder.load(plan.keys(), bench.origins).items() if bench.is_complete(key)}
        if found:
            missing = len(plan.keys()) - len(found)
            reporter.notify(f"{len(found)} cells are there already, {missing} are missing")
        bench = bench.with_head()
        if bench.held_out is None:
            reporter.notify("every text of the test set is in the corpus: there is no masked-LM loss on held-out text")
        return cls(config, plan, bench, found)

    def run(self, on_cell: OnCell) -> Finished:
        """Run the cells that are missing. One that fails is written down and does not stop the others."""
        for cell in self.found.values():
            on_cell(CellEvent(cell.key, cell, was_there=True))
        jobs = [missing for keys in self.plan.adaptations() if (missing := [k for k in keys if k not in self.found])]
        cells, failures = dict(self.found), {}
        opener = CellBenchOpener.of(self.bench)
        n_parameters = self.bench.model.lm.model.num_parameters()
        # A small model keeps a thread of this machine busy; what a cluster has room for is known to the engine.
        at_once = max(len(jobs), 1)
        if self.config.runtime.engine != "ray":
            at_once = min(at_once, self.bench.model.runtime.threads)
        with open_engine(self.config.runtime, self.bench, opener, at_once, n_parameters) as engine:
            for _, events in engine.play(None, jobs):
                for event in events:
                    if event.cell is not None:
                        cells[event.key] = event.cell
                    else:
                        failures[event.key] = event.problem or ""
                    on_cell(event)
        keys = self.plan.keys()
        return Finished(
            [cells[key] for key in keys if key in cells], {key.name: failures[key] for key in keys if key in failures}
        )


def _origins(config: Config, plan: Plan, corpus_digest: str, pretrained: ModelState) -> dict[str, dict[str, str]]:
    """masking → digests of all that gives its cells."""
    data, model = hashlib.sha256(corpus_digest.encode()), hashlib.sha256()
    for file in (config.data.train, config.data.test):
        content = Path(str(file)).expanduser().read_bytes()
        data.update(len(content).to_bytes(8, "little") + content)
    for name, tensor in pretrained.items():
        model.update(name.encode())
        model.update(tensor.cpu().numpy().tobytes())
    common = {"settings": config.digest, "data": data.hexdigest()[:16], "model": model.hexdigest()[:16]}
    return {
        name: common | {"masking": policy_digest(plan.learned[name]) if name in plan.learned else name}
        for name in plan.names
    }
