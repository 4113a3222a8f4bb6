"""`nmg share`: writes a policy with its model card to a folder or to the hub, or an adapted model to the hub."""

from pathlib import Path
from typing import Annotated

import typer


def share(
    folder: Annotated[Path, typer.Argument(help="Folder of a run, a policy or an adapted model.")],
    name: Annotated[str | None, typer.Argument(help="Hub repository, OWNER/NAME; the same as --to.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write the policy and its card to.")] = None,
    to: Annotated[str | None, typer.Option(help="Hub repository, OWNER/NAME; created if it is missing.")] = None,
    audit: Annotated[Path | None, typer.Option(help="Folder of an audit to report in the card.")] = None,
    results: Annotated[Path | None, typer.Option(help="Folder of a comparison to report in the card.")] = None,
    private: Annotated[bool, typer.Option("--private", help="Create a new repository as private.")] = False,
) -> None:
    """Write a policy and its model card (training, settings, audit, scores with intervals) to a folder or the hub.

    An adapted model goes to the hub with the card that nmg adapt wrote. Cards contain file names but no paths.
    Log in with `hf auth login` before you use the hub.
    """
    from nmg.base.errors import UserError

    to = to or name
    if out is None and to is None:
        raise UserError("give OWNER/NAME of the hub, --out FOLDER, or both")

    from nmg.adaptation.share import is_adaptation, push_adapted
    from nmg.report.document import Verdict
    from nmg.report.terminal import show

    if is_adaptation(folder):
        if to is None or out is not None or audit is not None or results is not None:
            raise UserError(f"{folder} is an adapted model: nmg share {folder} OWNER/NAME takes no other options")
        address = push_adapted(folder, to, private=private)
        show(
            [
                Verdict(
                    f"The adapted model is at {address}.", command=f"nmg compare nmg.yaml --model.name {to} --out DIR"
                )
            ]
        )
        return

    from nmg.policies.card import Provenance
    from nmg.policies.registry import load_policy
    from nmg.policies.storage import find_policy

    loaded = load_policy(folder)
    run = find_policy(folder).resolve().parent
    known = Provenance.read(run if (run / "run.json").is_file() else None, audit, results)
    if out is not None:
        loaded.save_pretrained(out, known)
        typer.echo(f"policy and model card: {out}")
    place = loaded.push_to_hub(to, known, private=private) if to is not None else str(out)
    use = f"nmg adapt --masking {to or out} --corpus TEXTS --model MODEL --out adapted"
    show([Verdict(f"The policy is at {place}.", "Anyone can mask with it by this name.", use)])
