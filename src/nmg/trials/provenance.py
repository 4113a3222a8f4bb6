"""The provenance of runs, cells and trials: digests of data files, models and other content that the settings name.

Runs, cells and trials continue only with the same content. The settings themselves have `Config.digest`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from nmg.base.errors import UserError
from nmg.base.files import user_path
from nmg.base.fingerprint import model_digest
from nmg.base.settings import DataSettings, named_contents
from nmg.config import Config
from nmg.data.cutting import tokenizer_digest
from nmg.data.formats.tables import source_digest
from nmg.masking.contents import digest_of_named
from nmg.training.lm import ModelState, PretrainedLM
from nmg.trials.session import Session


def input_digests(session: Session) -> dict[str, str]:
    """Digests of all content that the settings name: setting (or 'tokenizer') → 16 hex digits.

    For a model whose head is new and not yet warmed up, only weights from the checkpoint count. Content that only the
    maskings of a comparison read may be missing. Raises UserError for a data file that cannot be read.
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
    return {**digests, "tokenizer": tokenizer_digest(session.lm.tokenizer)}


def _of_masking(field: str, config: Config) -> str:
    """The digest of content that a masking reads, or 'cannot be read'."""
    try:
        return digest_of_named(field, config.masking)
    except UserError:
        return "cannot be read"


def data_files(data: DataSettings) -> dict[str, Path]:
    """Field → file, folder or data set of the hub, for each field that is set."""
    return {field: user_path(name) for field, _, name in named_contents(data) if name is not None}


def provenance(
    config: Config, fields: Sequence[str], corpus_digest: str, lm: PretrainedLM, pretrained: ModelState
) -> dict[str, str]:
    """Digests of everything that determines a cell or a trial, except for its masking.

    Args:
        config: The settings that it runs under.
        fields: The data files that it reads if they are set: 'train', 'test', …
        corpus_digest: The digest of the text to adapt on.
        lm: The tokenizer and the configuration of the model.
        pretrained: The weights to start from.

    Returns:
        'settings', 'data.FIELD', 'corpus', 'model', 'tokenizer' → digest.

    Raises:
        UserError: A data file cannot be read.
    """
    files = data_files(config.data)
    return {
        "settings": config.digest,
        **{f"data.{field}": source_digest(files[field]) for field in fields if field in files},
        "corpus": corpus_digest,
        "model": model_digest(pretrained, lm.model.config),
        "tokenizer": tokenizer_digest(lm.tokenizer),
    }


def check_provenance(out: Path, what: str, then: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Check that a result in an output folder was made from the current inputs.

    Args:
        out: The output folder.
        what: Name of the result, for the message.
        then: Name → digest, recorded with the result.
        now: Name → digest of the current inputs.

    Raises:
        UserError: The digests differ; the message names the inputs that changed.
    """
    changed = changed_names(then, now)
    if changed:
        others = " and ".join("other settings" if name == "settings" else f"another {name}" for name in changed)
        raise UserError(f"--out {out}: {what} was made with {others}; choose another --out")


def changed_names(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The names whose digests differ, or that occur in only one of the two."""
    return [name for name in {**now, **then} if now.get(name) != then.get(name)]


def check_unchanged(run: Path, then: Mapping[str, str], session: Session) -> None:
    """Check that the inputs of a run are the same as when it began.

    Args:
        run: The folder of the run.
        then: Its `input_digests`, from run.json.
        session: What the run would continue with.

    Raises:
        UserError: An input changed; the message names it.
    """
    changed = changed_names(then, input_digests(session))
    if changed:
        described = ", ".join(_described(name, session) for name in changed)
        raise UserError(
            f"--resume {run}: {described} {'has' if len(changed) == 1 else 'have'} changed since the run began, so it "
            "would not end as an uninterrupted one; bring back what it began with, or start a new run"
        )


def _described(name: str, session: Session) -> str:
    """An input with the name of its content, for messages."""
    if name == "tokenizer":
        return f"the tokenizer of {session.lm.name}"
    names = {setting: named for setting, _, named in named_contents(session.config)}
    return f"{name} ({names.get(name) or 'not given now'})"
