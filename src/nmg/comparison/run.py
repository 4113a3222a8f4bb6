"""Runs a comparison: every masking with every seed. Each trial runs once and is stored.

A meta-test is a comparison with a single condition. Nothing is selected by score: the trials are fixed before the first
one runs, scores are only recorded, and the tested metric is always the first of the task's table.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nmg.base.distributed import check_same, from_first
from nmg.base.errors import UserError
from nmg.base.outputs import check_output
from nmg.base.progress import Reporter
from nmg.base.trial import Labelled, TrialResult
from nmg.comparison.environment import described, differing
from nmg.comparison.plan import Plan, with_labels
from nmg.comparison.worker import ComparisonWorker
from nmg.config import Config
from nmg.executors.registry import open_executor
from nmg.policies.registry import load_policy
from nmg.tasks.load import few_shot
from nmg.tasks.loaded import LoadedData
from nmg.tasks.registry import task_kind
from nmg.training.runtime import Runtime
from nmg.trials.inputs import SharedInputs
from nmg.trials.store import TrialStore, has_trials


@dataclass(frozen=True)
class TrialEvent:
    """A report that one trial succeeded, failed, or was finished by an earlier call."""

    result: TrialResult
    was_there: bool = False
    """Whether an earlier call finished the trial."""

    def line(self) -> str:
        """Return one line for the terminal: the trial's name with its scores and time, or with its error."""
        result = self.result
        if result.error is not None:
            return f"{result.spec.name}  failed: {result.error}"
        score = "  ".join(f"{name} {value:.4f}" for name, value in result.scores.items())
        return f"{result.spec.name}  {score}  {result.total_seconds:.0f} s"


OnCell = Callable[[TrialEvent], None]
"""Called with the event of each trial."""


@dataclass(frozen=True)
class Finished:
    """The results of all trials of a comparison."""

    cells: list[TrialResult]
    """Results of the trials that succeeded, in the order of the plan."""
    failures: dict[str, str]
    """Name of a failed trial → what went wrong."""


@dataclass(frozen=True)
class Comparison:
    """A comparison that is ready to run; create it with `open(…).with_head()`."""

    config: Config
    """The settings for the trials; its precision is one that works with the model."""
    plan: Plan
    session: ComparisonWorker
    store: TrialStore
    found: Sequence[TrialResult]
    """Trials of the plan that an earlier call finished."""

    @classmethod
    def open(
        cls,
        config: Config,
        plan: Plan,
        out: Path,
        reporter: Reporter,
        *,
        save_models: bool = False,
        inputs: SharedInputs | None = None,
    ) -> "Comparison":
        """Read and check all inputs, and load the trials that are already finished. No training starts.

        Args:
            config: The settings of the user.
            plan: The trials to run.
            out: The folder of the comparison.
            reporter: Receives messages for the user.
            save_models: Whether to save the adapted LMs of the first seed in `out`/models.
            inputs: Data and models of earlier comparisons; None if there is only one.

        Returns:
            The comparison; `with_head` makes it ready to run.

        Raises:
            UserError: Settings, data, model or folder are invalid.
        """
        check_folder(out)
        for policy in plan.learned.values():
            load_policy(policy)
        config = config.for_meta_test()
        if config.data.test is None:
            raise UserError("data.test: a comparison needs a test set; give --data.test FILE")
        inputs = inputs or SharedInputs(max_models=0)
        plan = distinct_points(config, plan, inputs.data(config.data), reporter)
        plan = replace(plan, evaluation=config.test.evaluation)
        session = ComparisonWorker.open(config, plan, out, reporter, save_models=save_models, inputs=inputs)
        check_same({name: digest for masking in plan.names for name, digest in session.provenance.of(masking).items()})
        store = TrialStore(out, session.provenance)
        store.load()
        there = {spec: result for spec, result in store.results.items() if session.is_complete(spec)}
        store.results = from_first(there)  # use the folder of the main process
        missing = store.missing(plan.specs())
        found = [store.results[spec] for spec in plan.specs() if spec not in missing]
        if found:
            reporter.notify(f"{len(found)} trials are finished, {len(missing)} are missing")
            if missing:
                _say_circumstances(found, session.model.runtime, reporter)
        return cls(session.config, plan, session, store, found)

    @property
    def n_missing(self) -> int:
        """Number of trials that are not finished."""
        return len(self.plan.specs()) - len(self.found)

    def with_head(self) -> "Comparison":
        """Return a copy that is ready to run: it has the LM head, warmed up if the checkpoint lacks one.

        Reports overlaps of the test set with the other data.
        """
        reporter = self.session.model.reporter
        for overlap in self.session.model.loaded.test_overlaps:
            reporter.notify(overlap.line())
        session = self.session.with_head()
        if session.held_out is None:
            reporter.notify(
                "the masked-LM loss on held-out text is not measured, because every test text is in the corpus or has "
                "no tokens"
            )
        return replace(self, session=session)

    def run(self, on_cell: OnCell) -> Finished:
        """Run the missing trials and call `on_cell` with an event for each trial, those already finished first.

        A failed trial does not stop the others.
        """
        for result in self.found:
            on_cell(TrialEvent(result, was_there=True))
        jobs = [missing for specs in self.plan.adaptations() if (missing := self.store.missing(specs))]
        n_parameters = self.session.model.lm.model.num_parameters()
        # Count all trials, not only missing ones: a resumed comparison then gives each the same number of threads.
        at_once = len(list(self.plan.adaptations()))
        # A small model keeps one local thread busy. On a cluster the executor knows the available resources.
        if self.config.runtime.engine != "ray":
            at_once = min(at_once, self.session.model.runtime.threads)
        with open_executor(self.config.runtime, self.session, self.session.factory, at_once, n_parameters) as engine:
            for _, results in engine.map_unordered(None, jobs):
                for result in results:
                    on_cell(TrialEvent(self.store.append(result)))
        results = [self.store.results[spec] for spec in self.plan.specs()]
        return Finished(
            [one for one in results if one.error is None],
            {one.spec.name: one.error for one in results if one.error is not None},
        )


def check_folder(out: Path) -> None:
    """Raise UserError if the folder `out` contains files but no trials."""
    if not has_trials(out):
        check_output(out, "files that do not belong to a comparison")


def distinct_points(config: Config, plan: Plan, loaded: LoadedData, reporter: Reporter) -> Plan:
    """Return the plan without points of the learning curve that repeat another point.

    A number of labels that selects all labelled examples is replaced by the point "all".

    Args:
        config: The settings of the comparison.
        plan: The plan as requested.
        loaded: The data of `config.data`.
        reporter: Receives a message about each point that is replaced or that some classes cannot fill.

    Returns:
        The plan with distinct points.

    Raises:
        UserError: A number of labels is below the minimum of the task, or the task trains nothing.
    """
    if plan.labelled == (None,):
        return plan
    kind, seed = task_kind(config.data.task), plan.seeds[0]
    if not kind.is_trained:
        raise UserError(f"--shots: the task '{kind.name}' trains on no labelled example. Remove the option.")
    every = loaded.sample(with_labels(config.data, "all"), seed).train
    labels = {label for example in every if (label := kind.label_of(example)) is not None}
    points: list[Labelled] = []
    for asked in plan.labelled:
        points.append(asked)
        if not isinstance(asked, int):
            continue
        n = len(few_shot(every, with_labels(config.data, asked), kind, seed))
        if n == len(every):
            reporter.notify(f"--shots {asked}: this takes all {n:,} labelled examples, so it is run as the point 'all'")
            points[-1] = "all"
        elif kind.few_labels == "labelled_per_class" and n < asked * len(labels):
            reporter.notify(f"--shots {asked}: some classes have fewer examples; the total is {n:,}")
    return replace(plan, labelled=tuple(dict.fromkeys(points)))


def _say_circumstances(found: Sequence[TrialResult], runtime: Runtime, reporter: Reporter) -> None:
    """Warn if the finished trials ran in an environment that differs from the current one, except for threads."""
    now = runtime.environment()
    del now["threads"]  # threads per cell depend on the executor
    then = ({name: value for name, value in cell.environment.items() if name != "threads"} for cell in found)
    if differences := differing([*then, now]):
        reporter.notify(
            f"warning: finished trials ran in a different environment from the next ones: {described(differences)}. "
            "Pairs that mix environments will be marked, because they differ in more than their masks. To avoid this, "
            "use the same runtime.precision and runtime.device, or choose another --out"
        )
