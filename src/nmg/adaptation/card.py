"""Writes the model card of an adapted model: README.md of its folder, which the Hugging Face hub shows.

Files are named without their folders, because a card may be published.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from nmg.adaptation.facts import in_words, perplexity
from nmg.adaptation.term_rows import SHOWN, term_rows
from nmg.base.files import is_folder

CARD = "README.md"
"""File name of the card."""
TAGS = ("fill-mask", "masked-language-modeling", "domain-adaptation", "nmg")
_HEADER = re.compile(r"\A---\n(.*?)\n---\n", flags=re.DOTALL)
_LONGEST_BASE_CARD = 2**20
"""Maximum number of characters to read of a base model's card."""
_LIMITS = """## Limits

- The losses measure how well the model predicts masked words of this corpus. They do not show that it performs better
  on a task. Compare it with the base model on your task.
- The model may have forgotten other domains. It may reproduce the content of the corpus, including errors and biases.
- The licence and privacy restrictions of the corpus also apply to a model trained on it.
"""


def adapted_card(facts: Mapping[str, Any]) -> str:
    """Return the card of an adapted model as Markdown, with the YAML header that the hub reads.

    Args:
        facts: Content of nmg.json.

    Returns:
        The content of README.md.
    """
    settings = facts["settings"]
    base, corpus = settings["model"]["name"], settings["data"]["corpus"]
    lines = [
        f"# {_code(Path(base).name)} adapted to {_code(_file_name(corpus))}",
        "",
        f"The masked language model {_code(Path(base).name)}, trained further on the text {_code(_file_name(corpus))} "
        f"with [nmg](https://pypi.org/project/nmg/), masking {_code(_masking_name(facts['masking']))}.",
        "",
        *_facts(facts),
        *_losses(facts),
        *_terms(facts),
        *_use(),
        _LIMITS,
        *_details(facts),
    ]
    return f"---\n{yaml.safe_dump(_header(base), sort_keys=False)}---\n\n" + "\n".join(lines)


def _header(base: str) -> dict[str, Any]:
    """Return the fields of the YAML header, with licence and language from the card of the base model."""
    header: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": "fill-mask", "tags": list(TAGS)}
    if not is_folder(base) and not Path(base).is_absolute() and not base.startswith("."):
        header["base_model"] = base
    known = base_card(base)
    return header | {
        name: known[name] for name in ("license", "license_name", "license_link", "language") if name in known
    }


def base_card(base: str) -> dict[str, Any]:
    """Return the YAML header of a base model's card, from its folder or the hub's cache; {} if there is none."""
    path: Path | None = Path(base) / CARD
    if not is_folder(base):
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError

        try:
            cached = try_to_load_from_cache(base, CARD)
        except HFValidationError:
            cached = None
        path = Path(cached) if isinstance(cached, str) else None
    if path is None or not path.is_file():
        return {}
    try:
        with path.open(encoding="utf-8") as file:
            found = _HEADER.match(file.read(_LONGEST_BASE_CARD))
        header = yaml.safe_load(found.group(1)) if found else None
    except (OSError, UnicodeDecodeError, yaml.YAMLError):  # the card of someone else: not needed
        return {}
    return {name: value for name, value in header.items() if _is_plain(value)} if isinstance(header, dict) else {}


def _is_plain(value: object) -> bool:
    """Return whether a value is text, or a list of texts."""
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(one, str) for one in value))


def _facts(facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of the section on the corpus and the training."""
    yield "## What was done\n"
    masking, adapt = facts["settings"]["masking"], facts["settings"]["adapt"]
    for name, text in in_words(facts).items():
        yield f"- {name}: {text}"
    replaced = f"{masking['mask_replace_prob']:.0%} mask token, {masking['random_replace_prob']:.0%} random token"
    yield f"- corpus: {facts['blocks']:,} blocks of up to {adapt['block_size']} tokens, digest {facts['corpus_digest']}"
    yield f"- masked tokens become: {replaced}, the rest unchanged"
    yield "- versions: " + ", ".join(f"{name} {version}" for name, version in facts["versions"].items()) + "\n"


def _losses(facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of the section on the losses before and after."""
    held_out, general = facts["held_out"], facts["general"]
    if not held_out and not general:
        return
    yield "## Losses\n\nNats per masked token, lower is better. Blocks and masks are the same each time.\n"
    yield "| text | loss before | loss after | perplexity before | perplexity after |\n|---|---:|---:|---:|---:|"
    for name, losses in (("held-out documents of the corpus", held_out), ("general text", general)):
        if losses:
            pair = (losses["before"], losses["best"] if facts["is_best"] and losses is held_out else losses["after"])
            cells = [*(f"{loss:.3f}" for loss in pair), *(f"{perplexity(loss):,.1f}" for loss in pair)]
            yield f"| {name} | {' | '.join(cells)} |"
    yield ""


def _terms(facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of the section on the terms of the domain, if any were measured."""
    if not facts["terms"] or not facts["terms"]["measured"]:
        return
    found = term_rows(facts["terms"], SHOWN)
    yield f"## Terms\n\nTerms of {_code(_file_name(facts['terms']['source']))}: {found.choice}.\n"
    yield f"| {' | '.join(found.header)} |\n|---|---|{'---:|' * (len(found.header) - 2)}"
    for term, pieces, *numbers in found.rows:
        yield f"| {' | '.join([_code(term), _code(pieces), *numbers])} |"
    yield f"\n{found.note}\n"


def _use() -> Iterator[str]:
    """Yield the lines of the section on how to load the model."""
    yield """## Use

```python
from transformers import pipeline

fill = pipeline("fill-mask", "OWNER/NAME")  # or the path of this folder
fill(f"A sentence with a {fill.tokenizer.mask_token}.")
```

To use it as a sentence encoder, train it on pairs first: masked language modeling alone gives no good similarities.

```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("OWNER/NAME")  # mean pooling
```
"""


def _details(facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a folded section with all settings, in which files are named without their folders."""
    settings = facts["settings"]
    shown = {name: dict(settings[name]) for name in ("model", "data", "masking", "adapt")}
    shown["model"]["name"] = Path(settings["model"]["name"]).name
    for section in ("data", "masking"):
        for name, value in shown[section].items():
            if isinstance(value, str) and ("/" in value or "\\" in value):
                shown[section][name] = _file_name(value)
    text = yaml.safe_dump(shown, sort_keys=False)
    yield f"<details><summary>All settings</summary>\n\n````yaml\n{text}````\n\n</details>\n"


def _file_name(path: str | None) -> str:
    """Return the last part of a path; a name that starts with `hub:` is returned unchanged."""
    if path is None:
        return "text"
    return path if path.startswith("hub:") else re.split(r"[/\\]", path.rstrip("/\\"))[-1]


def _masking_name(masking: str) -> str:
    """Return the name of a masking; for the folder of a policy, only the last part of its path."""
    return _file_name(masking) if masking.startswith(("/", ".", "~")) else masking


def _code(text: str) -> str:
    """Return text as a code span, in which Markdown and HTML have no meaning."""
    plain = " ".join(text.split()).replace("`", "'").replace("|", "¦")
    return f"`{plain}`"
