"""Looks at data and writes a configuration for it: `nmg init`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nmg.base.errors import UserError
from nmg.base.files import is_folder, is_there, user_path, write_text
from nmg.base.outputs import check_file
from nmg.base.settings import DataSettings
from nmg.config.draft import MODEL, OTHER_MODEL, draft, parts_of
from nmg.config.facts import DataFacts, measure_corpus, measure_task
from nmg.config.load import load_config
from nmg.data.formats.tables import ending_of
from nmg.report.document import Verdict
from nmg.tasks.guess import Choose, guess_data, no_choice


@dataclass(frozen=True)
class Look:
    """What a data file is."""

    data: DataSettings
    facts: DataFacts

    @property
    def model(self) -> str:
        """The model to suggest."""
        return MODEL if self.facts.text.is_english else OTHER_MODEL


def look(
    file: Path,
    corpus: Path | None = None,
    task: str | None = None,
    fields: Mapping[str, str | None] | None = None,
    choose: Choose = no_choice,
) -> Look:
    """Read a data file, guess its task and fields, find the files next to it, and measure them.

    Args:
        file: Labelled training data, or plain text to adapt on.
        corpus: Text to adapt on, in addition to labelled data.
        task: The task, or None to guess it.
        fields: Field of `DataSettings` → name of a field in the file, or None to guess it.
        choose: Called if names and values do not tell which field is the label or the text.

    Returns:
        The settings of the section `data`, and what was measured.

    Raises:
        UserError: If a file cannot be read, or its task or fields cannot be told.
    """
    path = user_path(file)
    if task is None and is_plain_text(path):
        return Look(DataSettings(corpus=str(file)), measure_corpus(path))
    guess = guess_data(path, task, fields or {}, choose)
    named = {"train": str(file), **parts_of(Path(file))}
    if corpus is not None:
        named["corpus"] = str(corpus)
    data = DataSettings.model_validate({"task": guess.kind.name, **named, **guess.fields})
    return Look(data, measure_task(data))


def is_plain_text(path: Path) -> bool:
    """Return whether the path is a .txt file, or a folder of them that is not a folder per label."""
    return any(path.glob("*.txt")) if is_folder(path) else ending_of(path) == ".txt"


def init(found: Look, out: Path, model: str, *, is_frozen: bool = False) -> Verdict:
    """Write the configuration.

    Args:
        found: What `look` returned.
        out: The file to write; it must not exist.
        model: Hub name or folder of the masked LM.
        is_frozen: Whether the encoder will be used frozen.

    Returns:
        What was found, and the command to run next.

    Raises:
        UserError: If the file exists or cannot be written.
    """
    if is_there(out):
        raise UserError(f"{out}: already exists. Remove it, or give another name with --out.")
    check_file(out)
    write_text(out, draft(found.data, found.facts, model, is_frozen=is_frozen))
    load_config(out)  # what was written is valid
    return verdict(found, out)


def verdict(found: Look, out: Path) -> Verdict:
    """Return what was found in the data, and the command to run next."""
    facts = found.facts
    if facts.kind is None:
        said = f"{out} adapts a model to {facts.n_texts:,} texts."
        return Verdict(said, "The data have no labels.", f"nmg adapt --config {out} --out adapted")
    said = f"{out} is ready: {facts.kind.name}, {facts.n_train:,} labelled examples."
    why = [f"Language: {facts.text.language}."]
    if facts.overlaps:
        why.append("Near duplicates of scored texts are left out of training.")
    if not facts.n_validation:
        why.append("There is no validation file, so a part of the training data is set aside.")
    if not facts.n_test:
        why.append("There is no test file; nmg compare needs one (data.test).")
    return Verdict(said, " ".join(why), f"nmg audit {out} --out audit")
