"""Resolves the maskings that a user names on the command line: rules, mixtures and policies."""

import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from nmg.base.errors import UserError
from nmg.base.files import content_digest, is_folder, is_there, user_path
from nmg.base.progress import Reporter, Silent
from nmg.base.seeding import StreamName
from nmg.base.settings import MaskingSettings, MetaTestSettings
from nmg.data.cutting import tokenizer_digest
from nmg.masking.contents import digest_of_named
from nmg.masking.mixture import Mixture, parse_mixture
from nmg.masking.names import LEARNED, PAPER_NAME
from nmg.masking.registry import READS, RULES, build_masking, unknown_masking
from nmg.policies.base import Policy
from nmg.policies.hub import is_hub_name
from nmg.policies.registry import load_policy
from nmg.policies.sampling import PolicyMasking
from nmg.policies.storage import CONFIG, find_policy, policy_digest, refuse_no_adaptation

if TYPE_CHECKING:
    from nmg.data.corpus import Corpus
    from nmg.masking.base import Masking
    from nmg.training.lm import PretrainedLM


def parse_policies(words: Iterable[str], option: str) -> dict[str, Path]:
    """Parse policies from the command line: ['runs/a', 'best=runs/b'] → {'a': runs/a, 'best': runs/b}.

    A folder without a name gets the name of its run folder, even if it is the folder `policy` inside that run folder.
    A run folder with a name that says nothing (`run`) is called after the folder above if `word` names that folder,
    else `learned`. Raises UserError if a name is empty or already used. `option` is the option that error messages
    mention.
    """
    policies: dict[str, Path] = {}
    for word in filter(None, (word.strip() for word in words)):
        name, equals, folder = word.partition("=")
        if equals and not is_there(user_path(word)):
            path, name = user_path(folder.strip()), name.strip()
            if not name or not folder.strip():
                raise UserError(f"{option} {word}: must be FOLDER or NAME=FOLDER")
        else:
            path = user_path(word)
            name = _own_name(path)
        if name in RULES or name in CONTROLS or name in policies:
            taken = f"also the name of {policies[name]}" if name in policies else "the name of a masking"
            raise UserError(f"{option} {word}: '{name}' is {taken}: write NAME=FOLDER with another name")
        policies[name] = path
    return policies


def _own_name(folder: Path) -> str:
    """Return the name of a run: of its folder or, if that says nothing, of the named folder above, or `learned`."""
    resolved = folder.resolve()
    run = resolved.parent if resolved.name == "policy" else resolved
    if run.name != "run":
        return run.name
    named = [part for part in folder.parts if part not in {"run", "policy", ".", "..", folder.anchor}]
    return named[-1] if named else LEARNED


CONTROLS = ("untrained", "placebo")
"""Learned maskings that should have no effect: a policy with random weights, and one learned from random scores."""


def control_folder(name: str, policies: Mapping[str, Path]) -> Path:
    """Return the folder of the policy that a control is made from.

    `untrained` uses the first of `policies` (name → folder). `placebo` uses the placebo that the run of this policy
    saved. Raises UserError if there is no such policy.
    """
    if not policies:
        raise UserError(f"--maskings {name}: this control needs a trained policy: give one with --policies")
    first = next(iter(policies.values()))
    if name == "untrained":
        return first
    run = find_policy(first).resolve().parent
    if not (run / name / CONFIG).is_file():
        raise UserError(
            f"--maskings {name}: the run {run} has no folder '{name}': use a run of the learner 'experiment'"
        )
    return run / name


def mismatches(policy: Policy, lm: "PretrainedLM", rate: float) -> list[str]:
    """Compare how a policy is used with how it was trained.

    Args:
        policy: The policy.
        lm: The language model in use.
        rate: The masking rate in use.

    Returns:
        One phrase per difference, e.g. "the masking rate 0.05, here 0.15". The model and the tokenizer are compared
        only if the policy's configuration names them.
    """
    then, found = policy.config, []
    digest = tokenizer_digest(lm.tokenizer)
    if then.base_model and not _is_same_model(then.base_model, lm.name, has_same_tokenizer=then.tokenizer == digest):
        found.append(f"the model '{then.base_model}', here '{lm.name}'")
    if then.tokenizer and then.tokenizer != digest:
        found.append(f"the tokenizer {then.tokenizer} of '{then.base_model}', here {digest} of '{lm.name}'")
    if not math.isclose(then.masking_rate, rate):
        found.append(f"the masking rate {then.masking_rate:g}, here {rate:g}")
    return found


def warn_if_mismatched(name: str, policy: Policy, lm: "PretrainedLM", rate: float, reporter: Reporter) -> None:
    """Notify the user if a policy equals a rule, or if its use differs from its training.

    Args:
        name: Name of the masking. Controls are not compared with rules, and a rule by its own name is no news.
        policy: The policy.
        lm: The language model in use.
        rate: The masking rate in use.
        reporter: Receives the messages.
    """
    if name not in CONTROLS and (rule := policy.as_rule()) not in (None, name):
        reporter.notify(f"the policy '{name}' is equal to a rule ({rule}): it has learned nothing beyond it")
    if policy.config.recipe is not None:
        reporter.notify(
            f"the policy '{name}' was learned with its own recipe ({policy.config.recipe.words}), "
            "which recommended.yaml of its run sets"
        )
    if found := mismatches(policy, lm, rate):
        reporter.notify(
            f"the policy '{name}' was trained with {'; '.join(found)}: its masks may be worse than in training"
        )


def _is_same_model(then: str, now: str, *, has_same_tokenizer: bool) -> bool:
    """Return whether two names mean the same model.

    Two folders are compared by their content. A recorded path that leads nowhere from here may be relative to another
    folder, so its last part and the tokenizer decide.
    """
    first, second = Path(then).expanduser(), Path(now).expanduser()
    if then == now or not second.is_dir():
        return then == now
    if not first.is_dir():
        return first.name == second.name and has_same_tokenizer
    return first.resolve() == second.resolve() or content_digest(first) == content_digest(second)


def policy_place(name: str) -> str:
    """Return `name` if it is an existing folder or has the form of a hub repository (`OWNER/NAME`).

    Raises UserError otherwise.
    """
    if is_folder(name) or is_hub_name(name):
        return name
    refuse_no_adaptation(Path(name))
    raise unknown_masking(name)


def mixture_members(name: str, policy_folder: str | os.PathLike[str] | None) -> list[tuple[float, str]]:
    """Return (share, name) of each member of a mixture, or [] for other maskings. Raises UserError like
    `parse_mixture`."""
    return parse_mixture(name) if policy_folder is None and not is_folder(name) else []


def masking_identity(name: str, settings: MaskingSettings, policy_folder: Path | None = None) -> dict[str, str]:
    """Compute digests of the files, models and policies that a masking reads.

    Two maskings with the same name produce the same masks only if these digests are equal. The location of the content
    does not matter.

    Args:
        name: Name of a rule, a mixture or a policy, as for `load_masking`.
        settings: Settings that name the files and models that rules read.
        policy_folder: Folder of the policy, as for `load_masking`.

    Returns:
        'masking.SETTING' or "policy 'NAME'" → digest (16 hex digits). A mixture has the digests of all members. The
        result is empty if the settings determine the masking completely.

    Raises:
        UserError: If the name is unknown or content cannot be read.
    """
    members = mixture_members(name, policy_folder)
    if members:
        return {what: digest for _, one in members for what, digest in masking_identity(one, settings).items()}
    if policy_folder is None and name in RULES:
        return {f"masking.{field}": digest_of_named(field, settings) for field in READS.get(name, ())}
    return {f"policy '{name}'": policy_digest(policy_folder or policy_place(name))}


def load_masking(
    name: str | os.PathLike[str],
    lm: "PretrainedLM",
    corpus: "Corpus",
    settings: MaskingSettings,
    policy_folder: str | os.PathLike[str] | None = None,
    test: MetaTestSettings | None = None,
    reporter: Reporter | None = None,
) -> "Masking":
    """Load a masking by its name.

    Args:
        name: Name of a rule, a mixture (`0.7*idf+0.3*runs/mine`), or the folder or hub repository of a policy.
        lm: The language model in use.
        corpus: The corpus that rules are computed from.
        settings: Masking settings: the rate, and the files and models that rules read.
        policy_folder: Folder of the policy. If given, `name` is only a label.
        test: How policies select tokens, and their temperature. The default is `MetaTestSettings()`.
        reporter: Receives notices, e.g. if a policy was trained with another model, tokenizer or masking rate.

    Returns:
        The masking. A policy is moved to the device of the language model.

    Raises:
        UserError: If the name is unknown, or if the policy is missing or does not fit the model.

    Example:
        ```python
        session = nmg.ModelSession.open(config)
        corpus = session.corpus(["Aspirin inhibits COX-1."])
        masking = nmg.load_masking("idf", session.lm, corpus, config.masking)
        ```
    """
    name, test = os.fspath(name), test or MetaTestSettings()
    members = mixture_members(name, policy_folder)
    if members:
        loaded = [
            (share, load_masking(one, lm, corpus, settings, test=test, reporter=reporter)) for share, one in members
        ]
        return Mixture(name, loaded)
    if policy_folder is None and name in RULES:  # even if a folder with that name exists
        embeddings = lm.model.get_input_embeddings().weight
        notify = (reporter or Silent()).notify
        return build_masking(name, lm.tokenizer, corpus, settings, embeddings, notify)
    if policy_folder is None and name in {LEARNED, PAPER_NAME}:
        raise unknown_masking(name)
    policy = load_policy(policy_folder or policy_place(name))
    policy.check_fits(lm.hidden_size, lm.vocabulary_size)
    warn_if_mismatched(name, policy, lm, settings.rate, reporter or Silent())
    if name == "untrained":
        with (StreamName(0) / "untrained").torch():
            policy.randomise()
    acts = policy.acts if test.selection == "auto" else test.selection
    return PolicyMasking(policy.to(lm.model.device), greedy=acts == "greedy", name=name, temperature=test.temperature)
