"""The model card of a policy: what it masks, how it was trained, and the evidence that it helps.

File names are shown without their folders, because a card may be published.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import yaml

from nmg.base.errors import bad_input
from nmg.base.files import is_folder
from nmg.data.overlap import near_duplicates_text

CARD = "README.md"
"""File name of the model card."""
_FILES = ("train", "validation", "test", "corpus")
"""Settings of the section `data` that name files."""
_NOT_SHOWN = ("runtime", "run")
"""Sections of the settings that do not describe the policy."""


class DescribedPolicy(Protocol):
    """Interface of the policy that a card describes."""

    kind: ClassVar[str]
    """Kind of the policy."""
    acts: ClassVar[Any]
    """How the policy selects tokens: `greedy` or `sample`."""
    config: Any
    """A `policies.base.PolicyConfig`."""

    @property
    def reads_lm(self) -> bool:
        """Whether the policy reads the language model."""
        ...


@dataclass(frozen=True)
class Provenance:
    """Contents of the files that describe how a policy was trained and evaluated; empty if a file is missing."""

    settings: Mapping[str, Any]
    """Content of config.yaml of the run."""
    run: Mapping[str, Any]
    """Content of run.json of the run."""
    findings: Mapping[str, Any]
    """Content of effects.json of the run."""
    audit: Mapping[str, Any]
    """Content of audit.json, written by `nmg audit`."""
    comparison: Mapping[str, Any]
    """Content of results.json, written by `nmg compare`."""

    @classmethod
    def read(cls, run: Path | None = None, audit: Path | None = None, comparison: Path | None = None) -> "Provenance":
        """Read the files in the given folders.

        Args:
            run: Folder of a run. Its files are optional.
            audit: Folder of an audit.
            comparison: Folder of a comparison.

        Returns:
            The provenance; parts without a folder are empty.

        Raises:
            UserError: If the results of an audit or a comparison are missing, or if a file cannot be read.
        """
        return cls(
            settings=_read(run, "config.yaml", is_needed=False),
            run=_read(run, "run.json", is_needed=False),
            findings=_read(run, "effects.json", is_needed=False),
            audit=_read(audit, "audit.json", is_needed=True),
            comparison=_read(comparison, "results.json", is_needed=True),
        )


def _read(folder: Path | None, name: str, *, is_needed: bool) -> dict[str, Any]:
    """Return the content of a YAML or JSON file, or {} if there is no folder or an optional file is missing."""
    if folder is None or not ((folder / name).is_file() or is_needed):
        return {}
    path = folder / name
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))  # also reads JSON
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise bad_input(path, f"cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise bad_input(path, "must contain a mapping of names to values")
    return content


def model_card(policy: DescribedPolicy, known: Provenance) -> str:
    """Return the model card as Markdown, with the YAML header that the hub reads."""
    of_policy = [_head(policy, known), _use(policy), _masks(policy)]
    return "\n".join([*of_policy, *_training(known), *_audit(known), *_scores(known)])


def _head(policy: DescribedPolicy, known: Provenance) -> str:
    """Return the YAML header, the title and the introduction."""
    base = policy.config.base_model
    facts: dict[str, Any] = {"library_name": "nmg", "tags": ["masked-language-modeling", "mask-policy"]}
    if re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?", base) and not is_folder(base):  # a name of the hub, not a path
        facts["base_model"] = base
    named = f" for {Path(base).name}" if base else ""
    task = known.settings.get("data", {}).get("task")
    learned = f", learned from scores of the task `{task}`" if task else ""
    return (
        f"---\n{yaml.safe_dump(facts, sort_keys=False)}---\n\n# A mask policy{named}\n\nIt selects the tokens "
        f"to mask when a masked language model is adapted to the text of a domain{learned}.\n"
    )


def _use(policy: DescribedPolicy) -> str:
    """Return the section on how to use the policy."""
    reads = ", model=model" if policy.reads_lm else ""
    model = "model = AutoModelForMaskedLM.from_pretrained(MODEL)\n" if policy.reads_lm else ""
    classes = "AutoModelForMaskedLM, AutoTokenizer" if policy.reads_lm else "AutoTokenizer"
    return f"""## Use

MODEL is the masked language model to adapt, a name or a folder.

```python
from nmg import MaskingCollator
from transformers import {classes}

tokenizer = AutoTokenizer.from_pretrained(MODEL)
{model}collator = MaskingCollator(tokenizer, masking="OWNER/NAME", rate={policy.config.masking_rate:g}{reads})
```

or `nmg adapt --masking OWNER/NAME`. You can write the path of this folder instead of OWNER/NAME.
"""


def _masks(policy: DescribedPolicy) -> str:
    """Return the section on what the policy masks, with the weights of a linear policy."""
    how = "samples tokens by their scores" if policy.acts == "sample" else "masks the tokens with the highest scores"
    looks = "reads the language model" if policy.reads_lm else "does not read the language model"
    text = (
        f"## What it masks\n\nKind: `{policy.kind}`. It {looks} and {how}. It was trained to mask "
        f"{100 * policy.config.masking_rate:g} % of the tokens.\n"
    )
    if policy.config.recipe is not None:
        text += f"It was learned with its own recipe: {policy.config.recipe.words}. Use the same recipe with it.\n"
    as_rule = getattr(policy, "as_rule", None)
    if as_rule is not None and (rule := as_rule()):
        return f"{text}\nIt is equal to a rule, {rule}: it has learned nothing beyond it.\n"
    weights = getattr(policy, "weights", None)
    features = getattr(policy.config, "features", ())
    if weights is None or not features:
        return text
    pairs = sorted(zip(features, weights.tolist(), strict=True), key=lambda pair: -abs(pair[1]))
    rows = "\n".join(f"| `{name}` | {weight:+.3f} |" for name, weight in pairs)
    return (
        f"{text}\nA weight is the increase of a token's log odds per standard deviation of the feature:\n\n"
        f"| feature | weight |\n|---|---:|\n{rows}\n"
    )


def _training(known: Provenance) -> Iterator[str]:
    """Yield the parts of the section on the training run, with all settings."""
    if not known.settings:
        return
    data, learner = known.settings.get("data", {}), known.settings.get("learner", {})
    files = ", ".join(f"{name} `{Path(data[name]).name}`" for name in _FILES if data.get(name))
    lines = [
        f"- task: {data.get('task')}; data: {files or 'not named'}",
        f"- language model: `{Path(known.settings.get('model', {}).get('name', '')).name}`",
        f"- learner: `{learner.get('kind')}`",
    ]
    if trials := known.findings.get("trials"):
        lines.append(f"- inner loops: {trials}; selected: {known.findings.get('selected')}")
    gate = known.findings.get("gate") or {}
    if gate.get("n"):
        episodes = "episode" if gate["n"] == 1 else "episodes"
        verdict = "passed" if gate.get("passes") else "not passed"
        found = ", ".join(f"{one['mean']:+.4g} against `{name}`" for name, one in gate.get("against", {}).items())
        lines.append(f"- gate: {verdict}, {found} over {gate['n']} fresh {episodes}")
    versions = known.run.get("versions", {})
    if versions:
        lines.append("- versions: " + ", ".join(f"{name} {version}" for name, version in versions.items()))
    shown = {name: fields for name, fields in known.settings.items() if name not in _NOT_SHOWN}
    shown["data"] = data | {name: Path(data[name]).name for name in _FILES if data.get(name)}
    shown["model"] = shown.get("model", {}) | {"name": Path(shown.get("model", {}).get("name", "")).name}
    settings = yaml.safe_dump(json.loads(json.dumps(shown)), sort_keys=False)
    yield "\n".join(["## Training\n", *lines, ""])
    yield f"<details><summary>All settings</summary>\n\n```yaml\n{settings}```\n\n</details>\n"


def _audit(known: Provenance) -> Iterator[str]:
    """Yield the parts of the section on the audit of the data."""
    if not known.audit:
        return
    lm, leakage = known.audit.get("lm", {}), known.audit.get("leakage", {})
    found = f"- {near_duplicates_text(leakage)}\n" if {"near_duplicates", "validation"} <= set(leakage) else ""
    yield (
        f"## Audit\n\n{known.audit.get('recommendation', '')}\n\n"
        f"- masked-LM loss {lm.get('loss', float('nan')):.3f}, {lm.get('margin', float('nan')):.3f} nats below that "
        f"of guessing by word frequency\n{found}"
    )


def _scores(known: Provenance) -> Iterator[str]:
    """Yield the parts of the section with the test scores of all maskings and their paired differences."""
    if not known.comparison:
        return
    level = round(100 * known.comparison.get("confidence", 0.95))
    yield f"## Scores on the test set\n\nMean over seeds with its {level} % confidence interval.\n"
    for setting in known.comparison["results"]:
        metric = setting["tested_metric"]
        yield f"{setting['part']}, metric: `{metric}`\n" if setting["part"] else f"Metric: `{metric}`\n"
        rows = [f"| {one['masking']} | {_interval(one['metrics'][metric], metric)} |" for one in setting["maskings"]]
        yield "\n".join(["| masking | score |", "|---|---:|", *rows, ""])
        pairs = [
            f"| {pair['first']} − {pair['second']} | {_interval(pair, metric)} | {_p(pair['t_p_holm'])} |"
            for pair in setting["pairs"]
        ]
        yield "\n".join(["| pair | difference | p (paired t, Holm) |", "|---|---:|---:|", *pairs, ""])


def _interval(estimate: Mapping[str, Any], metric: str) -> str:
    """Format a mean with its interval, if there is one. Scores are × 100, as in all tables; losses are not."""
    scale, digits = (1, 3) if metric == "loss" else (100, 1)
    low, high = estimate.get("low"), estimate.get("high")
    if low is None or high is None:
        return f"{scale * estimate['mean']:.{digits}f}"
    return f"{scale * estimate['mean']:.{digits}f} [{scale * low:.{digits}f}, {scale * high:.{digits}f}]"


def _p(value: float | None) -> str:
    """Format a p-value; None becomes a dash."""
    return "–" if value is None else f"{value:.3g}"
