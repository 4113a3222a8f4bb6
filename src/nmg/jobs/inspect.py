"""Shows what maskings and policies mask in texts, and writes the page: `nmg.inspect`."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

from nmg.base.errors import UserError
from nmg.base.files import user_path
from nmg.base.outputs import check_file
from nmg.base.progress import Reporter
from nmg.config.sources import AnyPath, Settings, Source, config_of
from nmg.inspection.page import inspect_page
from nmg.inspection.render import write_inspect_page
from nmg.inspection.run import inspect_texts
from nmg.jobs.policies import AnyPolicies, names_of, policies_of
from nmg.jobs.progress import job_progress
from nmg.jobs.results import Inspected


def inspect(
    texts: AnyPath | Sequence[str],
    out: AnyPath | None = None,
    *,
    policies: AnyPolicies | None = None,
    maskings: str | Sequence[str] = ("random", "idf"),
    config: Source | None = None,
    draws: int = 100,
    limit: int = 10_000,
    tags: bool = True,
    overrides: Mapping[str, Any] | None = None,
    progress: bool = True,
    reporter: Reporter | None = None,
    **settings: Unpack[Settings],
) -> Inspected:
    """Count how often policies and rules mask each token of some texts.

    Args:
        texts: A list of texts; or a file of texts, a folder of .txt files, or the data file of a task.
        out: The page to write (.html), which needs no network; None writes none.
        policies: Folders of runs or policies, or name → folder. A result of `nmg.learn` is such a folder.
        maskings: Names of rules to compare with; none if it is empty.
        config: Settings, a configuration file, or the folder of a run. None uses the defaults.
        draws: Number of masks drawn per text and masking, at least 2.
        limit: Maximum number of texts; more are sampled at random.
        tags: Whether to add parts of speech and named entities if spaCy is installed.
        overrides: Other settings, as `section.field` → value.
        progress: Whether to show bars in a terminal or a notebook.
        reporter: Receives messages and phases instead of the bars.
        **settings: `model`, `rate`, `seed` and the others of `nmg.learn`. The rate is by default that of the first
            policy.

    Returns:
        The counts. `to_frame()` has a row per word, and a notebook shows the words masked most often.

    Raises:
        UserError: Texts, model, a policy or a masking are invalid, or `out` cannot be written.

    Example:
        ```python
        seen = nmg.inspect(["Aspirin inhibits COX-1."], "masks.html", model="bert-base-uncased", maskings="random")
        print(seen.summary())
        ```
    """
    chosen = config_of(config, settings, overrides, call="nmg.inspect")
    if "name" not in chosen.model.model_fields_set:
        raise UserError("nmg.inspect: name the masked LM that reads the texts (model=…)")
    page = None if out is None else user_path(out)
    if page is not None:
        if page.suffix != ".html" or page.is_dir():
            raise UserError(f"nmg.inspect, out: {page} must be a file that ends in .html")
        check_file(page)
    source = user_path(texts) if isinstance(texts, str | os.PathLike) else list(texts)
    with job_progress(progress, reporter) as shown:
        named, rules = policies_of(policies), names_of(maskings)
        seen = inspect_texts(chosen, source, named, rules, shown, draws=draws, limit=limit, with_tags=tags)
    if page is not None:
        write_inspect_page(page, inspect_page(seen))
    return Inspected(**vars(seen), out=page)
