"""Digests of content that masking settings refer to: files, a token classifier, a spaCy pipeline."""

import hashlib
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from nmg.base.errors import UserError
from nmg.base.files import content_digest, is_folder, user_path
from nmg.base.fingerprint import model_digest
from nmg.base.section import named_contents
from nmg.base.settings import MaskingSettings
from nmg.data.formats.tables import source_digest
from nmg.masking.selective import load_token_classifier

NOT_GIVEN = "not given"
"""The digest of a setting that is not set."""


def digest_of_named(setting: str, settings: MaskingSettings) -> str:
    """Return the digest (16 hex digits) of the content that `masking.SETTING` names, or `NOT_GIVEN` if it is not set.

    Raises UserError if the content cannot be read, and ValueError if the setting does not refer to content.
    """
    for field, named, name in named_contents(settings):
        if field == setting:
            return NOT_GIVEN if name is None else _DIGESTS[named.kind](name)
    raise ValueError(f"masking.{setting} does not name a file, folder or model")


def _of_data(name: str) -> str:
    """Return the digest of a data file or folder."""
    return source_digest(user_path(name))


def _of_classifier(name: str) -> str:
    """Return the digest of a classifier's weights and configuration."""
    model = load_token_classifier(name)
    return model_digest(model.state_dict(), model.config)


def _of_pipeline(name: str) -> str:
    """Return the digest of the pipeline's files and of the installed version of spaCy."""
    folder = user_path(name) if is_folder(user_path(name)) else _package_folder(name)
    if folder is None:
        raise UserError(f"masking.spacy_model: there is no spaCy model '{name}': install it or set another one")
    try:
        reader = version("spacy")
    except PackageNotFoundError:
        reader = "no spaCy"
    return hashlib.sha256(f"{reader} {content_digest(folder)}".encode()).hexdigest()[:16]


def _package_folder(name: str) -> Path | None:
    """Return the folder of an installed package, without importing the package; None if it is not installed."""
    found = find_spec(name) if name.isidentifier() else None
    return None if found is None or found.origin is None else Path(found.origin).parent


_DIGESTS: Mapping[str, Callable[[str], str]] = {
    "data": _of_data,
    "token classifier": _of_classifier,
    "spaCy pipeline": _of_pipeline,
}
"""Maps the kind of a `NamedContent` to the function that computes its digest."""
