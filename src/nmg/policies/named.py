"""Maskings as a user names them: a rule by its name, a policy by its folder, both as words of a command line."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from nmg.data.cutting import tokenizer_digest
from nmg.errors import UserError
from nmg.files import is_folder, is_there, user_path
from nmg.masking.contents import digest_of_named
from nmg.masking.mixture import Mixture, parse_mixture
from nmg.masking.registry import READS, RULES, build_masking, unknown_masking
from nmg.policies.base import Policy
from nmg.policies.hub import is_hub_name
from nmg.policies.masking import PolicyMasking
from nmg.policies.registry import load_policy
from nmg.policies.storage import CONFIG, find_policy, policy_digest
from nmg.reporter import Reporter, Silent
from nmg.seeding import StreamName
from nmg.settings import MaskingSettings, MetaTestSettings

if TYPE_CHECKING:
    from nmg.data.corpus import Corpus
    from nmg.inner.lm import PretrainedLM
    from nmg.masking.base import Masking


def parse_policies(words: Iterable[str], option: str) -> dict[str, Path]:
    """['runs/a', 'best=runs/b'] → {'a': runs/a, 'best': runs/b}.

    A folder without a name is called as its run is, also where it is the folder `policy` in it. Raises UserError for
    a name that is empty or taken.
    """
    policies: dict[str, Path] = {}
    for word in filter(None, (word.strip() for word in words)):
        name, equals, folder = word.partition("=")
        if equals and not is_there(user_path(word)):
            path, name = user_path(folder.strip()), name.strip()
            if not name or not folder.strip():
                raise UserError(f"{option} {word}: write FOLDER or NAME=FOLDER")
        else:
            path = user_path(word)
            resolved = path.resolve()
            name = resolved.parent.name if resolved.name == "policy" else resolved.name
        if name in RULES or name in CONTROLS or name in policies:
            taken = f"also the name of {policies[name]}" if name in policies else "the name of a masking"
            raise UserError(f"{option} {word}: '{name}' is {taken}; name it otherwise with NAME=FOLDER")
        policies[name] = path
    return policies


CONTROLS = ("untrained", "placebo")
"""learned maskings that must do nothing: a policy with weights of chance, and one learned from scores of chance"""


def control_folder(name: str, policies: Mapping[str, Path]) -> Path:
    """The policy that a control is made from: the first one's, or the placebo that its run has left.

    Raises UserError where there is none.
    """
    if not policies:
        raise UserError(f"--maskings {name}: it is a control for a trained policy; name one with --policies")
    first = next(iter(policies.values()))
    if name == "untrained":
        return first
    run = find_policy(first).resolve().parent
    if not (run / name / CONFIG).is_file():
        raise UserError(
            f"--maskings {name}: the run {run} has left no folder '{name}'; a run of the learner 'experiment' does"
        )
    return run / name


def foreign_use(policy: Policy, lm: "PretrainedLM", rate: float) -> list[str]:
    """What of its use is not as it was trained, each as 'model A, here B'. What its folder does not say is not told."""
    then, found = policy.config, []
    if then.base_model and _same_place(then.base_model) != _same_place(lm.name):
        found.append(f"the model '{then.base_model}', here '{lm.name}'")
    if then.tokenizer and then.tokenizer != (digest := tokenizer_digest(lm.tokenizer)):
        found.append(f"the tokenizer {then.tokenizer} of '{then.base_model}', here {digest} of '{lm.name}'")
    if not math.isclose(then.masking_rate, rate):
        found.append(f"the masking rate {then.masking_rate:g}, here {rate:g}")
    return found


def say_use(name: str, policy: Policy, lm: "PretrainedLM", rate: float, reporter: Reporter) -> None:
    """Tell where a policy is a rule, and where it is used with something else than it was trained with."""
    if name not in CONTROLS and (rule := policy.as_rule()):
        reporter.notify(f"the policy '{name}' masks by a rule, {rule}, and by nothing learned beyond it")
    if found := foreign_use(policy, lm, rate):
        reporter.notify(f"the policy '{name}' was trained with {'; '.join(found)}: it may not mask as it learned to")


def _same_place(model: str) -> str:
    """A folder by its full path, a name of the hub as it is."""
    return str(Path(model).expanduser().resolve()) if Path(model).expanduser().is_dir() else model


def policy_place(name: str) -> str:
    """`name`, where it may be a policy: a folder that is there, or the name of a hub repository (`OWNER/NAME`).

    Raises UserError where it is neither.
    """
    if is_folder(name) or is_hub_name(name):
        return name
    raise unknown_masking(name)


def mixture_members(name: str, policy_folder: Path | None) -> list[tuple[float, str]]:
    """Share and name of each member of a mixture; empty for a masking that is none. Raises as `parse_mixture`."""
    return parse_mixture(name) if policy_folder is None and not is_folder(name) else []


def masking_identity(name: str, settings: MaskingSettings, policy_folder: Path | None = None) -> dict[str, str]:
    """What a masking reads besides the settings → 16 hex digits of its content, wherever it is stored.

    Two maskings of one name mask the same only if their identities are equal.

    Args:
        name: a rule, a mixture or a policy, as `load_masking` takes it.
        settings: name the files and models that rules read.
        policy_folder: as `load_masking` takes it.

    Returns:
        'masking.SETTING' or "policy 'NAME'" → digest, of all members for a mixture; empty if settings say all.

    Raises:
        UserError: for an unknown name, and for content that cannot be read.
    """
    members = mixture_members(name, policy_folder)
    if members:
        return {what: digest for _, one in members for what, digest in masking_identity(one, settings).items()}
    if policy_folder is None and name in RULES:
        return {f"masking.{field}": digest_of_named(field, settings) for field in READS.get(name, ())}
    return {f"policy '{name}'": policy_digest(policy_folder or policy_place(name))}


def load_masking(
    name: str,
    lm: "PretrainedLM",
    corpus: "Corpus",
    settings: MaskingSettings,
    policy_folder: Path | None = None,
    test: MetaTestSettings | None = None,
    reporter: Reporter | None = None,
) -> "Masking":
    """A rule by its name, a mixture (`0.7*idf+0.3*runs/mine`), or a learned policy, which acts as `test` says.

    The policy is that of `policy_folder`, or, where none is given, of the folder or hub repository that is called
    `name`. `reporter` hears of one that was trained with another model, tokenizer or rate. Raises UserError for an
    unknown name, and for a policy that is missing or does not fit the model.
    """
    test = test or MetaTestSettings()
    members = mixture_members(name, policy_folder)
    if members:
        loaded = [
            (share, load_masking(one, lm, corpus, settings, test=test, reporter=reporter)) for share, one in members
        ]
        return Mixture(name, loaded)
    if policy_folder is None and name in RULES:  # also where a folder of that name happens to be there
        embeddings = lm.model.get_input_embeddings().weight
        notify = (reporter or Silent()).notify
        return build_masking(name, lm.tokenizer, corpus, settings, embeddings, notify)
    if policy_folder is None and name == "neural":
        raise unknown_masking(name)
    policy = load_policy(policy_folder or policy_place(name))
    policy.check_fits(lm.hidden_size, lm.vocabulary_size)
    say_use(name, policy, lm, settings.rate, reporter or Silent())
    if name == "untrained":
        with (StreamName(0) / "untrained").torch():
            policy.randomise()
    acts = policy.acts if test.policy_acts == "auto" else test.policy_acts
    return PolicyMasking(policy.to(lm.model.device), greedy=acts == "top-k", name=name, temperature=test.temperature)
