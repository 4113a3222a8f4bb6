"""Digests of what the settings of maskings name: files, a token classifier, a spaCy pipeline."""

import hashlib
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from nmg.data.formats.tables import source_digest
from nmg.errors import UserError
from nmg.files import content_digest, is_folder, user_path
from nmg.fingerprint import model_digest
from nmg.masking.selective import load_token_classifier
from nmg.settings import MaskingSettings, named_contents

NOT_GIVEN = "not given"
"""of a setting that names nothing"""


def digest_of_named(setting: str, settings: MaskingSettings) -> str:
    """16 hex digits of the content that `masking.SETTING` names; `NOT_GIVEN` if it names none.

    Raises UserError if the content cannot be read.
    """
    for field, named, name in named_contents(settings):
        if field == setting:
            return NOT_GIVEN if name is None else _DIGESTS[named.kind](name)
    raise ValueError(f"masking.{setting} names no content")


def _of_data(name: str) -> str:
    return source_digest(user_path(name))


def _of_classifier(name: str) -> str:
    model = load_token_classifier(name)
    return model_digest(model.state_dict(), model.config)


def _of_pipeline(name: str) -> str:
    """The pipeline's files, and the version of spaCy, which reads them."""
    folder = user_path(name) if is_folder(user_path(name)) else _package_folder(name)
    if folder is None:
        raise UserError(f"masking.spacy_model: there is no spaCy model '{name}'")
    try:
        reader = version("spacy")
    except PackageNotFoundError:
        reader = "no spaCy"
    return hashlib.sha256(f"{reader} {content_digest(folder)}".encode()).hexdigest()[:16]


def _package_folder(name: str) -> Path | None:
    """The folder of an installed package, which is not imported; None if there is none."""
    found = find_spec(name) if name.isidentifier() else None
    return None if found is None or found.origin is None else Path(found.origin).parent


_DIGESTS: Mapping[str, Callable[[str], str]] = {
    "data": _of_data,
    "token classifier": _of_classifier,
    "spaCy pipeline": _of_pipeline,
}
"""kind of `NamedContent` → digest of what a name names"""
