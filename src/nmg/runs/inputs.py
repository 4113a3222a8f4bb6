"""What runs, cells and plays are made from: digests of data files, models and whatever else the settings name.

They continue with nothing else. The settings themselves have `Config.digest`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from nmg.config import Config
from nmg.data.cutting import tokenizer_digest
from nmg.data.formats.tables import source_digest
from nmg.errors import UserError
from nmg.files import user_path
from nmg.fingerprint import model_digest
from nmg.inner.lm import ModelState, PretrainedLM
from nmg.masking.contents import digest_of_named
from nmg.settings import DataSettings, named_contents
from nmg.workbench import Workbench


def input_digests(bench: Workbench) -> dict[str, str]:
    """Setting that names content (or 'tokenizer') → 16 hex digits of that content, for all settings that are given.

    Of a model whose head is new and not yet warmed up: what the checkpoint has. What only maskings of a comparison read
    may be missing. Raises UserError for a data file that cannot be read.
    """
    digests = {}
    for setting, _, name in named_contents(bench.config):
        section, _, field = setting.partition(".")
        if name is None:
            continue
        if section == "data":
            digests[setting] = source_digest(user_path(name))
        elif section == "masking":
            digests[setting] = _of_masking(field, bench.config)
        elif setting == "model.name":
            lm = bench.lm
            digests[setting] = model_digest(lm.model.state_dict(), lm.model.config, without=lm.new_parameters)
        else:
            raise ValueError(f"{setting} names content that no digest covers")
    return {**digests, "tokenizer": tokenizer_digest(bench.lm.tokenizer)}


def _of_masking(field: str, config: Config) -> str:
    try:
        return digest_of_named(field, config.masking)
    except UserError:
        return "cannot be read"


def data_files(data: DataSettings) -> dict[str, Path]:
    """Field → file, folder or data set of the hub, of those that are given."""
    return {field: user_path(name) for field, _, name in named_contents(data) if name is not None}


def origin(
    config: Config, fields: Sequence[str], corpus_digest: str, lm: PretrainedLM, pretrained: ModelState
) -> dict[str, str]:
    """Digests of all that gives a cell or a play, whatever its masking.

    Args:
        config: the settings as it runs under them.
        fields: the data files that it reads, of those that are given: 'train', 'test', …
        corpus_digest: of the text to adapt on.
        lm: gives the tokenizer and the configuration of the model.
        pretrained: the weights to start from.

    Returns:
        'settings', 'data.FIELD', 'corpus', 'model', 'tokenizer' → digest.
    """
    files = data_files(config.data)
    return {
        "settings": config.digest,
        **{f"data.{field}": source_digest(files[field]) for field in fields if field in files},
        "corpus": corpus_digest,
        "model": model_digest(pretrained, lm.model.config),
        "tokenizer": tokenizer_digest(lm.tokenizer),
    }


def check_origin(out: Path, what: str, then: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Raises UserError, with the names of what differs, if `what` in the folder `out` was made from something else."""
    changed = changed_names(then, now)
    if changed:
        others = " and ".join("other settings" if name == "settings" else f"another {name}" for name in changed)
        raise UserError(f"--out {out}: {what} was made with {others}; choose another --out")


def changed_names(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The names whose digests differ, or that only one of the two has."""
    return [name for name in {**now, **then} if now.get(name) != then.get(name)]


def check_unchanged(run: Path, then: Mapping[str, str], bench: Workbench) -> None:
    """Raises UserError, with their names, if inputs are not those that the run began with.

    Args:
        run: the folder of the run.
        then: its `input_digests`, from run.json.
        bench: what the run would continue with.
    """
    changed = changed_names(then, input_digests(bench))
    if changed:
        described = ", ".join(_described(name, bench) for name in changed)
        raise UserError(
            f"--resume {run}: {described} {'has' if len(changed) == 1 else 'have'} changed since the run began, so it "
            "would not end as an uninterrupted one; bring back what it began with, or start a new run"
        )


def _described(name: str, bench: Workbench) -> str:
    """An input with what it is called."""
    if name == "tokenizer":
        return f"the tokenizer of {bench.lm.name}"
    names = {setting: named for setting, _, named in named_contents(bench.config)}
    return f"{name} ({names.get(name) or 'not given now'})"
