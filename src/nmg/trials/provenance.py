"""The provenance of runs and trials: digests of data files, models and other content that the settings name.

Runs continue, and stored trials are reused, only with the same content. The settings themselves have `Config.digest`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nmg.base.errors import UserError
from nmg.base.files import user_path
from nmg.base.fingerprint import model_digest
from nmg.base.section import named_contents
from nmg.base.settings import DataSettings
from nmg.base.trial import TrialResult
from nmg.config import Config
from nmg.data.cutting import tokenizer_digest
from nmg.data.formats.tables import source_digest
from nmg.masking.contents import digest_of_named
from nmg.training.lm import ModelState
from nmg.training.pooling import MEAN, Pooling
from nmg.trials.session import ModelSession, Session


def input_digests(session: Session) -> dict[str, str]:
    """Return the digests of all content that the settings name: setting (or 'tokenizer') → 16 hex digits.

    The digest of a model leaves out parameters that the checkpoint lacks. The digest of content that a masking reads is
    'cannot be read' if there is no such content. Raises UserError for a data file that cannot be read.
    """
    digests = {}
    for setting, _, name in named_contents(session.config):
        section, _, field = setting.partition(".")
        if name is None:
            continue
        if section == "data":
            digests[setting] = source_digest(user_path(name))
        elif section == "masking":
            digests[setting] = _of_masking(field, session.config)
        elif setting == "model.name":
            lm = session.lm
            digests[setting] = model_digest(lm.model.state_dict(), lm.model.config, without=lm.new_parameters)
        else:
            raise ValueError(f"{setting} names content that no digest covers")
    return {**digests, "tokenizer": tokenizer_digest(session.lm.tokenizer), **_of_pooling(session.pooling)}


def _of_masking(field: str, config: Config) -> str:
    """Return the digest of the content that `masking.FIELD` names, or 'cannot be read'."""
    try:
        return digest_of_named(field, config.masking)
    except UserError:
        return "cannot be read"


def data_files(data: DataSettings) -> dict[str, Path]:
    """Return field of the settings → file, folder or data set of the hub, for each field that is set."""
    return {field: user_path(name) for field, _, name in named_contents(data) if name is not None}


def source_digests(data: DataSettings, fields: Sequence[str]) -> dict[str, str]:
    """Return 'data.FIELD' → digest of each file in `fields` that is set. Raises UserError if one cannot be read."""
    files = data_files(data)
    return {f"data.{field}": source_digest(files[field]) for field in fields if field in files}


def provenance(
    config: Config, fields: Sequence[str], corpus_digest: str, model: ModelSession, pretrained: ModelState
) -> dict[str, str]:
    """Return the digests of everything that determines a trial, except for its masking.

    Args:
        config: The settings that the trial runs under.
        fields: Names of the data files that the trial reads if they are set: 'train', 'test', …
        corpus_digest: The digest of the text to adapt on.
        model: The open model: tokenizer, configuration and pooling.
        pretrained: The weights to start from.

    Returns:
        'settings', 'data.FIELD', 'corpus', 'model', 'tokenizer' → digest. 'pooling' → its names, unless it is the
        usual one.

    Raises:
        UserError: A data file cannot be read.
    """
    return {
        "settings": config.digest,
        **source_digests(config.data, fields),
        "corpus": corpus_digest,
        "model": model_digest(pretrained, model.lm.model.config),
        "tokenizer": tokenizer_digest(model.lm.tokenizer),
        **_of_pooling(model.pooling),
    }


def _of_pooling(pooling: Pooling) -> dict[str, str]:
    """Return the entry of a pooling; empty for the usual one, which every task that trains a model has."""
    return {} if pooling == MEAN else {"pooling": "+".join(pooling.names)}


@dataclass(frozen=True)
class TrialProvenance:
    """Digests of the settings, data, model and maskings that the trials of a folder are made from."""

    common: Mapping[str, str]
    """Name of settings, a data file or a model → digest; the same for all trials (`provenance`)."""
    of_maskings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Masking → digests of the files, models and policies that it reads (`masking_identity`), if it reads any."""

    def of(self, masking: str) -> dict[str, str]:
        """Return the provenance of the trials of `masking`: name → digest."""
        return {**self.common, **self.of_maskings.get(masking, {})}

    def check(self, out: Path, what: str, result: TrialResult) -> None:
        """Check that a stored result was made from these inputs.

        If the masking of the result is not in `of_maskings`, only the digests in `common` are compared.

        Args:
            out: The output folder, for the message.
            what: The file of the result, for the message.
            result: The stored result.

        Raises:
            UserError: The result was made from other inputs; the message names them.
        """
        masking, then = result.spec.masking, result.provenance
        if masking not in self.of_maskings:
            then = {name: digest for name, digest in then.items() if name in self.common}
        if changed := changed_names(then, self.of(masking)):
            others = " and ".join("other settings" if name == "settings" else f"another {name}" for name in changed)
            raise UserError(f"--out {out}: {what} was made with {others}; choose another --out")

    def require_same(self, now: "TrialProvenance") -> None:
        """Raise UserError if `now`, the provenance found by another process, has other digests of files or models."""
        for masking in {**self.of_maskings, **now.of_maskings}:
            if changed := changed_names(self.of(masking), now.of(masking)):
                raise UserError(f"{', '.join(changed)}: changed during the run; leave all input files unchanged")


def changed_names(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return the names whose digests differ, or that occur in only one of the two mappings."""
    return [name for name in {**now, **then} if now.get(name) != then.get(name)]


def check_unchanged(run: Path, then: Mapping[str, str], session: Session) -> None:
    """Check that the inputs of a run are the same as when it began.

    Args:
        run: The folder of the run.
        then: The `input_digests` of the run when it began, from run.json.
        session: The session with which the run would continue.

    Raises:
        UserError: An input changed; the message names it.
    """
    changed = changed_names(then, input_digests(session))
    if changed:
        described = ", ".join(_described(name, session) for name in changed)
        raise UserError(
            f"--resume {run}: {described} {'has' if len(changed) == 1 else 'have'} changed since the run began, so its "
            "result would differ from that of an uninterrupted run; restore the original inputs, or start a new run"
        )


def _described(name: str, session: Session) -> str:
    """Return the name of an input and the file or model that it names, for messages."""
    if name == "tokenizer":
        return f"the tokenizer of {session.lm.name}"
    if name == "pooling":
        return f"the pooling of {session.lm.name}"
    names = {setting: named for setting, _, named in named_contents(session.config)}
    return f"{name} ({names.get(name) or 'not given now'})"
