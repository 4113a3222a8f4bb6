"""`nmg maskings`: lists the available maskings."""


def maskings() -> None:
    """List the maskings: what each masks, and who published it. docs/guide.md describes their settings."""
    from rich import print as show

    from nmg.masking.registry import MASKINGS, SOURCES
    from nmg.report.tables import Table, as_rich

    rows = tuple((name, about, SOURCES[name]) for name, about in MASKINGS.items())
    mixed = ("0.7*idf+0.3*random", "a mixture: one of these maskings per block, drawn with these weights", "ours")
    table = Table(("masking", "masks", "source"), (*rows, mixed))
    show(
        as_rich(table, "Maskings: --masking NAME, --maskings NAME,NAME or MaskingCollator(tokenizer, NAME)", n_words=3)
    )
