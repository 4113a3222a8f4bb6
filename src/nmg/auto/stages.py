"""The stages of `nmg adapt --auto`: each runs an existing job in a subfolder and returns a short record."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from nmg.adaptation.folder import AdaptationFolder
from nmg.adaptation.save import is_saved
from nmg.auditing.recommend import best_reward, is_sound, recommended_plays
from nmg.auditing.result import AuditResult
from nmg.auditing.trials import AuditTrial
from nmg.auto.plan import (
    WANTED_PLAYS,
    Costs,
    affordable_plays,
    affordable_seeds,
    episode_size,
    fitted_budget,
    loop_share,
    too_few_plays,
)
from nmg.auto.records import AdaptationStage, AuditStage, ComparisonStage, Gain, LearnStage
from nmg.auto.split import Divided
from nmg.base.errors import UserError
from nmg.base.outputs import RECOMMENDED
from nmg.base.progress import Reporter, Silent
from nmg.base.settings import DataSettings
from nmg.base.training_settings import AdaptSettings
from nmg.base.trial_recipe import TrialRecipe
from nmg.comparison.results import ComparisonResults
from nmg.config import Config, load_config
from nmg.jobs.adapt import adapt
from nmg.jobs.audit import audit
from nmg.jobs.compare import compare
from nmg.jobs.learn import learn
from nmg.meta_training.estimate import estimate
from nmg.meta_training.run import recorded_config
from nmg.policies.registry import load_policy
from nmg.training.batches import batches_per_epoch
from nmg.trials.session import Session

AUDIT_SEEDS = 3
"""Number of seeds per phase of the audit, its default."""
FIRST_SEED = 1000
"""Difference between `run.seed` and the first seed of the comparison, so that it draws other labelled examples."""
AUDIT, LEARN, COMPARISON, ADAPTED = "audit", "learn", "comparison", "adapted"
"""Names of the stages and of their folders."""
ONLY_AT_THE_END: Mapping[str, Any] = {"general_corpus": None, "terms": None}
"""Settings of `adapt` that only the last stage uses: they measure a model and do not change it."""

OnProgress = Callable[[str, str, int, int], None]
"""Called with the name of the stage, what is counted, how many are done, and the expected total."""


class Stages(Protocol):
    """The work of each stage. Tests replace it."""

    def audit(self, seconds: float) -> AuditStage:
        """Find the best schedule, and whether there is room for learned masks."""

    def learn(self, audited: AuditStage, seconds: float) -> LearnStage:
        """Learn masks, if there is room and time."""

    def compare(self, audited: AuditStage, learned: LearnStage, seconds: float) -> ComparisonStage:
        """Compare the selected masking with no adaptation and random masks."""

    def adapt(self, audited: AuditStage, masking: str, seconds: float) -> AdaptationStage:
        """Adapt the model to the whole corpus."""


@dataclass(frozen=True)
class Jobs:
    """The real stages."""

    config: Config
    """The settings of the user."""
    divided: Divided
    out: Path
    reporter: Reporter
    on_progress: OnProgress

    def check(self) -> None:
        """Check data, settings and model before any long work. Raises UserError if they do not fit together."""
        Session.open_all(self._with_data(self.divided.decision), Silent())

    def audit(self, seconds: float) -> AuditStage:
        """Run the audit within about `seconds`."""
        result = audit(
            self._with_data(self.divided.tuning),
            self.out / AUDIT,
            seeds=AUDIT_SEEDS,
            minutes=seconds / 60,
            reporter=self.reporter,
            on_trial=lambda _trial, done, in_all: self.on_progress(AUDIT, "trial", done, in_all),
        )
        return audited_record(result)

    def learn(self, audited: AuditStage, seconds: float) -> LearnStage:
        """Learn masks with the recommended reward and schedule; the number of inner loops is fitted to `seconds`."""
        folder = self.out / LEARN
        is_begun = (folder / "config.yaml").is_file()
        if is_begun:
            config = recorded_config(folder)
        else:
            shutil.rmtree(folder, ignore_errors=True)  # a kill may have come before the run was recorded
            share = loop_share(seconds, audited.costs)
            found = audited.why_not_learn() or too_few_plays(affordable_plays(seconds, audited.costs, share))
            if found is not None:
                return LearnStage(found)
            config = self._fitted(audited, share, seconds)
            found = too_few_plays(config.meta.episodes)
            if found is not None:
                return LearnStage(found)
        learn(
            config,
            folder,
            resume=is_begun,
            reporter=self.reporter,
            on_episode=lambda record, n: self.on_progress(LEARN, "episode", record.episode, n),
        )
        findings = json.loads((folder / "effects.json").read_text("utf-8"))
        return LearnStage(selected=findings["selected"], rule=findings["rule"], plays=findings["trials"])

    def compare(self, audited: AuditStage, learned: LearnStage, seconds: float) -> ComparisonStage:
        """Compare on the validation examples that neither the audit nor the learner used, with fresh seeds."""
        config = self._with_data(self.divided.decision, self._tuned)
        config = config.model_copy(
            update={"run": config.run.model_copy(update={"seed": self.config.run.seed + FIRST_SEED})}
        )
        candidate = learned.candidate
        done = 0

        def on_cell(event: Any, missing: int) -> None:
            nonlocal done
            done += not event.was_there
            self.on_progress(COMPARISON, "trial", done, missing)

        results = compare(
            config,
            ["none", "random", *([audited.rule] if candidate is None else [])],
            self.out / COMPARISON,
            baseline="none",
            policies={} if candidate is None else {candidate: self.out / LEARN},
            seeds=affordable_seeds(seconds, audited.costs),
            adapt_steps=[self._steps(audited)],
            reporter=self.reporter,
            on_cell=on_cell,
        )
        return compared_record(results, self.divided.examples[1])

    def adapt(self, audited: AuditStage, masking: str, _seconds: float) -> AdaptationStage:
        """Adapt the model to the whole corpus with the schedule that was compared."""
        folder = self.out / ADAPTED
        if not is_saved(folder):
            is_begun = (folder / "config.yaml").is_file()
            if not is_begun:
                shutil.rmtree(folder, ignore_errors=True)
            named = AdaptationFolder(folder).facts()["masking"] if is_begun else self._place(masking)
            adapt(
                self._final(audited),
                str(named),
                folder,
                reporter=self.reporter,
                resume=is_begun,
                on_step=lambda record, steps: self.on_progress(ADAPTED, "step", record["step"], steps),
            )
        facts = json.loads((folder / "nmg.json").read_text("utf-8"))
        return AdaptationStage(facts["steps"], facts["held_out"])

    @property
    def _recommended(self) -> Config:
        """The settings that the audit recommends, with the runtime settings of this call."""
        found = load_config(self.out / AUDIT / RECOMMENDED)
        return found.model_copy(update={"runtime": self.config.runtime})

    @property
    def _recipe(self) -> TrialRecipe:
        """The recipe that was tuned with the masks (`learner.factors`); it changes nothing if there is none."""
        folder = self.out / LEARN / "policy"
        found = load_policy(folder).config.recipe if folder.is_dir() else None
        return found or TrialRecipe()

    @property
    def _tuned(self) -> Config:
        """The recommended settings with the tuned recipe, whose steps `_steps` has."""
        return self._recommended.with_recipe(self._recipe.model_copy(update={"steps_factor": None}))

    def _steps(self, audited: AuditStage) -> int:
        """Return the number of steps of the best schedule under the tuned recipe."""
        return max(round((self._recipe.steps_factor or 1.0) * audited.steps), 1)

    def _place(self, masking: str) -> str:
        """Return the name by which `nmg adapt` knows a masking of the comparison."""
        return str(self.out / LEARN) if masking in {"learned", "tuned-rule"} else masking

    def _with_data(self, data: DataSettings, config: Config | None = None) -> Config:
        """Return settings with other data, without what only the last stage measures."""
        config = config or self.config
        return config.model_copy(update={"data": data, "adapt": config.adapt.model_copy(update=ONLY_AT_THE_END)})

    def _fitted(self, audited: AuditStage, share: float, seconds: float) -> Config:
        """Return the settings of a meta-training that takes about `seconds`.

        An inner loop has `share` of the steps of a trial. Of two measurements, the slower one counts: the estimate
        takes seconds, the audit took minutes with as many processes. There may be too few inner loops to run.
        """
        steps, wanted = max(round(share * audited.steps), 1), max(audited.plays, WANTED_PLAYS)
        config = self._like_the_audit(audited, steps)
        expected = estimate(_with_budget(config, wanted), Silent())
        plays = fitted_budget(seconds, wanted, 60 * expected.minutes, expected.seconds_to_prepare)
        plays = min(plays, affordable_plays(seconds - expected.seconds_to_prepare, audited.costs, share))
        minutes = max(expected.minutes * plays / wanted, audited.costs.learning(plays, share) / 60)
        self.reporter.notify(f"learning: {plays} inner loops of {steps} steps, about {minutes:.0f} minutes")
        return _with_budget(config, plays)

    def _like_the_audit(self, audited: AuditStage, steps: int) -> Config:
        """Return the recommended settings with inner loops of `steps` steps and the labelled examples of the audit."""
        config = self._with_data(self.divided.tuning, self._recommended)
        session = Session.open_all(config, Silent())
        texts = [context.text for context in session.data.contexts]
        adapting = config.for_meta_test().adapt
        contexts_per_step = len(texts) / batches_per_epoch(adapting, session.corpus(texts).lengths)
        size = episode_size(steps, contexts_per_step, len(session.split().train_context_ids))
        adapting = adapting.model_copy(update={"epochs": size["epochs"]})
        meta = config.meta.model_copy(
            update={"contexts": size["contexts"], "examples": audited.examples, "count_by": "examples"}
        )
        return config.for_meta_test().model_copy(update={"adapt": adapting, "meta": meta})

    def _final(self, audited: AuditStage) -> Config:
        """Return the settings of the last stage: the schedule that was compared, on the data of the user.

        All settings count as given, so no recipe changes them.
        """
        config = self._tuned.for_meta_test()
        length = {"steps": self._steps(audited), "epochs": AdaptSettings.model_fields["epochs"].default}
        also = {name: getattr(self.config.adapt, name) for name in ONLY_AT_THE_END}
        adapting = config.adapt.model_copy(update={**length, **also})
        whole = config.model_copy(update={"data": self.config.data, "adapt": adapting})
        return Config.model_validate(whole.model_dump())


def _with_budget(config: Config, plays: int) -> Config:
    return config.model_copy(
        update={
            "learner": config.learner.model_copy(update={"budget": plays}),
            "meta": config.meta.model_copy(update={"episodes": plays}),
        }
    )


def audited_record(result: AuditResult) -> AuditStage:
    """Return what the other stages need of an audit."""
    facts, best = result.facts, result.adaptation.best
    p = facts["maskings"]["p"]
    reward = best_reward(result.rewards, p)
    means = {
        name: mean
        for name, mean in facts["maskings"]["mean"].items()
        if name != "random" and not name.startswith("direction-")
    }
    rule = max(means, key=lambda name: means[name], default="whole-word")
    return AuditStage(
        metric=facts["maskings"]["metric"],
        pays=result.adaptation.pays,
        gain=best.gain,
        steps=best.steps,
        learning_rate=best.learning_rate,
        rule="idf" if rule.startswith("idf-") else rule,  # `recommended.yaml` has the exponent
        reward=None if reward is None else f"{reward.name}: {reward.metric}",
        is_sound=reward is not None and is_sound(reward, p),
        plays=0 if reward is None else recommended_plays(reward),
        possible_gain=facts["maskings"]["possible_gain"],
        examples=facts["examples"]["used"],
        costs=_costs(result, 0.0 if reward is None else reward.seconds),
    )


def _costs(result: AuditResult, play: float) -> Costs:
    """Return the costs of trials with all labelled examples, from the trials at the best schedule."""
    used, labelled = (result.facts["examples"][name] for name in ("used", "labelled"))

    def evaluation(trial: AuditTrial) -> float:
        scoring = trial.seconds["scoring"] / len(trial.results)
        training = trial.seconds["finetune" if trial.finetune else "probe"] - scoring
        return float(scoring + max(training, 0.0) * labelled / used)

    none, masked = (
        [trial for trial in result.fresh if (trial.spec.masking == "none") is is_none] for is_none in (True, False)
    )
    adaptation = float(np.mean([trial.seconds["adapt"] for trial in masked]))
    return Costs(
        none=float(np.mean([evaluation(trial) for trial in none])),
        masked=adaptation + float(np.mean([evaluation(trial) for trial in masked])),
        adaptation=adaptation,
        play=play,
        processes=result.facts["processes"],
    )


def compared_record(results: ComparisonResults, examples: int) -> ComparisonStage:
    """Return the scores and the gains over no adaptation; `examples` is the number of scored examples.

    Raises UserError if every trial failed.
    """
    if not any(one.maskings for one in results.settings):
        raise UserError(f"every trial of the comparison failed: {next(iter(results.failures.values()))}")
    (setting,) = results.settings
    return ComparisonStage(
        metric=setting.tested,
        examples=examples,
        scores={one.masking: list(one.scores[setting.tested]) for one in setting.maskings},
        gains={
            pair.first: Gain(
                pair.test.mean,
                pair.test.low,
                pair.test.high,
                pair.t_p_holm,
                pair.test.wins,
                pair.test.n,
            )
            for pair in setting.pairs
        },
        failures=[f"{name}: {problem}" for name, problem in results.failures.items()],
    )
