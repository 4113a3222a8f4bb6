"""`nmg vocabulary`: reports how a model splits the words of a corpus."""

from pathlib import Path
from typing import Annotated

import typer


def vocabulary(
    context: typer.Context,
    corpus: Annotated[
        Path,
        typer.Argument(
            help="Texts: .txt (one per line), .jsonl, .parquet, a folder of .txt files, hub:OWNER/NAME@SPLIT, stream:…"
        ),
    ],
    model: Annotated[str, typer.Option(help="Model whose tokenizer splits the words: a hub name or a folder.")],
    words: Annotated[int, typer.Option(min=1, help="Maximum number of words to propose.")] = 200,
    min_count: Annotated[int, typer.Option(min=1, help="Minimum number of occurrences of a proposed word.")] = 5,
    shown: Annotated[
        int, typer.Option(min=1, help="Maximum number of rows in the table of the most fragmented words.")
    ] = 20,
    out: Annotated[Path | None, typer.Option(help="File to write the proposed words to, one per line.")] = None,
    json: Annotated[Path | None, typer.Option(help="JSON file to write all figures to.")] = None,
) -> None:
    """Report how many word pieces a model needs per word of a corpus, and which words to add to its vocabulary.

    Add the words with `nmg adapt --adapt.add_words OUT` or `--adapt.add_words auto:N`. Only the tokenizer is loaded.
    """
    from nmg.base.files import as_json, user_path, write_text
    from nmg.base.outputs import check_file
    from nmg.config import load_config
    from nmg.jobs.console import progress_console

    settings = load_config(None, [*context.args, f"--model.name={model}"])
    for file in (out, json):
        if file is not None:
            check_file(file)

    from nmg.data.formats.text import read_texts
    from nmg.report.terminal import show
    from nmg.report.verdicts import vocabulary_verdict
    from nmg.report.vocabulary import vocabulary_json, vocabulary_tables
    from nmg.training.lm import load_tokenizer
    from nmg.vocabulary.fragments import count_fragments
    from nmg.vocabulary.words import choose_words

    texts = read_texts(user_path(corpus))
    tokenizer = load_tokenizer(settings.model)
    with progress_console() as console:
        counted = count_fragments(texts, tokenizer, console.steps("counting pieces of words"))
    proposed = choose_words(counted, tokenizer, words, min_count)
    show(vocabulary_tables(counted, proposed, tokenizer, shown))
    if out is not None:
        write_text(out, "".join(f"{one.word}\n" for one in proposed))
        typer.echo(f"written: {out} ({len(proposed):,} words)")
    if json is not None:
        write_text(json, as_json(vocabulary_json(counted, proposed, tokenizer), indent=1) + "\n")
        typer.echo(f"written: {json}")
    show([vocabulary_verdict(counted, proposed, model, corpus)])
