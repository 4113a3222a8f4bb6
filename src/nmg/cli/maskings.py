"""`nmg maskings`: lists the available maskings."""


def maskings() -> None:
    """List the maskings: what each masks, and who published it. docs/reference/maskings.md describes their settings."""
    from nmg.masking.registry import MASKINGS, SOURCES
    from nmg.report.document import Table
    from nmg.report.terminal import show

    rows = tuple((name, about, SOURCES[name]) for name, about in MASKINGS.items())
    mixed = ("0.7*idf+0.3*random", "a mixture: one of these maskings per block, drawn with these weights", "ours")
    caption = "Maskings: --masking NAME, --maskings NAME,NAME or MaskingCollator(tokenizer, NAME)"
    show([Table(("masking", "masks", "source"), (*rows, mixed), caption=caption, n_words=3)])
