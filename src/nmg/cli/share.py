"""`nmg share`: writes a policy with its model card to a folder or to the hub."""

from pathlib import Path
from typing import Annotated

import typer


def share(
    policy: Annotated[Path, typer.Argument(help="Folder of a run or policy.")],
    out: Annotated[Path | None, typer.Option(help="Folder to write the policy and its card to.")] = None,
    to: Annotated[str | None, typer.Option(help="Hub repository, OWNER/NAME; created if it is missing.")] = None,
    audit: Annotated[Path | None, typer.Option(help="Folder of an audit to report in the card.")] = None,
    results: Annotated[Path | None, typer.Option(help="Folder of a comparison to report in the card.")] = None,
    private: Annotated[bool, typer.Option("--private", help="Create a new repository as private.")] = False,
) -> None:
    """Write a policy and its model card (training, settings, audit, scores with intervals) to a folder or the hub.

    The card contains file names but no paths. Log in with `hf auth login` before you use --to.
    """
    from nmg.base.errors import UserError

    if out is None and to is None:
        raise UserError("give --out FOLDER, --to OWNER/NAME, or both")

    from nmg.policies.card import Provenance
    from nmg.policies.registry import load_policy
    from nmg.policies.storage import find_policy

    loaded = load_policy(policy)
    folder = find_policy(policy).resolve()
    known = Provenance.read(folder.parent if (folder.parent / "run.json").is_file() else None, audit, results)
    if out is not None:
        loaded.save_pretrained(out, known)
        typer.echo(f"policy and model card: {out}")
    if to is not None:
        typer.echo(loaded.push_to_hub(to, known, private=private))
