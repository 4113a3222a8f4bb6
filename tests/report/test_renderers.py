"""One document as HTML, Markdown, LaTeX, CSV and on a terminal: the same content, escaped as each format needs."""

import csv
import io
from collections.abc import Sequence

from rich.console import Console

from nmg.report.csv import as_csv
from nmg.report.document import Details, Document, Facts, Figure, Links, Notice, Paragraph, Section, Table, Verdict
from nmg.report.html import render_html
from nmg.report.latex import as_latex, latex_table
from nmg.report.markdown import as_markdown, table_lines
from nmg.report.terminal import as_rich, as_text, notes_once

TABLE = Table(
    ("masking", "accuracy", "time"),
    (("random", "60.0 ± 10.0", "3.3 s"), ("a|b", "−1.5", "–")),
    ("Scores × 100.", "Time: mean of a run."),
    "Results",
)


def test_markdown():
    lines = as_markdown(Document("a_b", "", [Section("Scores", [TABLE])])).splitlines()
    assert lines == [
        *("# a\\_b", "", "## Scores", "", "### Results", ""),
        "| masking | accuracy | time |",
        "| --- | ---: | ---: |",
        "| random | 60.0 ± 10.0 | 3.3 s |",
        "| a\\|b | −1.5 | – |",
        "",
        "Scores × 100.",
        "Time: mean of a run.",
    ]


def test_a_table_without_rows():
    assert table_lines(Table(("masking", "accuracy"), ())).splitlines() == [
        "| masking | accuracy |",
        "| --- | ---: |",
    ]


def test_terminal_shows_the_same_cells():
    console = Console(width=200)
    with console.capture() as capture:
        console.print(as_rich(TABLE))
    text = capture.get()
    assert "Results" in text
    assert all(entry in text for row in (TABLE.header, *TABLE.rows) for entry in row)
    assert " ".join(TABLE.notes) in " ".join(text.split()), "notes are wrapped"


def terminal(*blocks: Table | Verdict | Paragraph, width: int = 200) -> str:
    console = Console(width=width)
    with console.capture() as capture:
        console.print(*map(as_rich, blocks))
    return capture.get()


VERDICT = Verdict("Yes: **learn** with 0.7*idf.", "A `probe` agrees.", "nmg learn a/b_c.yaml")


def test_a_verdict_reads_the_same_on_a_page_and_on_a_terminal():
    html = render_html(Document("t", sections=[Section("s", [VERDICT])]))
    assert "<dt>Verdict</dt> <dd>Yes: <strong>learn</strong> with 0.7*idf.</dd>" in html
    assert "<dt>Why</dt> <dd>A <code>probe</code> agrees.</dd>" in html
    assert "<dt>Next</dt> <dd><code>nmg learn a/b_c.yaml</code></dd>" in html
    with_option = Document("t", sections=[Section("s", [Verdict("Yes.", command="nmg learn a--b.yaml --out run")])])
    kept = '<code>nmg learn a--b.yaml <span class="option">--out</span> run</code>'
    assert kept in render_html(with_option), "a browser breaks no line after its hyphens"
    assert terminal(VERDICT).splitlines() == [
        "Verdict: Yes: learn with 0.7*idf.",
        "Why: A probe agrees.",
        "Next: nmg learn a/b_c.yaml",
    ]
    assert "**Next:** `nmg learn a/b_c.yaml`" in as_markdown(Document("t", sections=[Section("s", [VERDICT])]))
    assert [name for name, _ in Verdict("No.").items()] == ["Verdict"], "empty parts are left out"


def test_markdown_of_every_block():
    blocks = [
        Paragraph("one *a* `x_y`\n\ntwo **b**"),
        Notice("careful"),
        Facts((("seeds", "3"), ("a_b", "<i>"))),
        Links((("part [1]", "part/index.html"),)),
        Details("Settings", "a: ```\n"),
        Figure("<svg></svg>", "not shown"),
    ]
    assert as_markdown(Document("T", "sub", [Section("S", blocks)])).split("\n\n") == [
        *("# T", "sub", "## S"),
        *("one \\*a\\* `x_y`", "two **b**", "> careful"),
        "- seeds: 3\n- a\\_b: &lt;i>",
        "- [part \\[1\\]](part/index.html)",
        *("<details><summary>Settings</summary>", "````\na: ```\n````", "</details>\n"),
    ]


def test_a_masking_with_asterisks_is_not_emphasised():
    """GitHub reads 0.7*idf+0.3*random as emphasis between the asterisks."""
    assert table_lines(Table(("m",), (("0.7*idf+0.3*random",),))).splitlines()[2] == r"| 0.7\*idf+0.3\*random |"


def test_highlighted_cells_are_bold_everywhere():
    table = Table(("m", "p"), (("a", "0.01"), ("b", "0.50")), caption="C", highlighted=frozenset({(0, 1)}))
    html = render_html(Document("t", sections=[Section("s", [table])]))
    assert '<th scope="row">a</th>' in html
    assert "<td><strong>0.01</strong></td>" in html
    assert "<td>0.50</td>" in html
    assert "| a | **0.01** |\n| b | 0.50 |" in table_lines(table)
    assert r"a & \textbf{0.01} \\" in latex_table(table)
    console = Console(width=80, force_terminal=True, color_system="standard")
    with console.capture() as capture:
        console.print(as_rich(table))
    assert "\x1b[1m0.01\x1b[0m" in capture.get()


def test_a_caption_is_hidden_only_under_an_equal_heading():
    table = Table(("m",), (("a",),), caption="Costs & time")
    shown, hidden = (render_html(Document("t", sections=[Section(s, [table])])) for s in ("s", "Costs & time"))
    assert "<caption>Costs &amp; time</caption>" in shown
    assert '<caption class="unseen">Costs &amp; time</caption>' in hidden
    assert "### " in as_markdown(Document("t", sections=[Section("s", [table])]))
    assert "### " not in as_markdown(Document("t", sections=[Section("Costs & time", [table])]))


def test_columns_of_words_are_aligned_left():
    table = Table(("m", "source", "n"), (("a", "b", "1"),), n_words=2)
    assert table_lines(table).splitlines()[1] == "| --- | --- | ---: |"
    assert r"\begin{tabular}{llr}" in latex_table(table)
    html = render_html(Document("t", sections=[Section("s", [table])]))
    assert '<td class="words">b</td><td>1</td>' in html.replace("\n", "")


def test_columns_are_chosen_with_their_marks():
    table = Table(("a", "b", "c"), (("1", "2", "3"),), ("note",), "C", highlighted=frozenset({(0, 2), (0, 1)}))
    assert table.columns((0, 2)) == Table(("a", "c"), (("1", "3"),), ("note",), "C", highlighted=frozenset({(0, 1)}))


def test_a_note_of_several_tables_follows_the_last_of_them():
    tables = [Table(("a",), (), notes) for notes in (("x", "y"), ("x",), ("z",), ("y",))]
    assert [table.notes for table in notes_once(tables)] == [(), ("x",), ("z",), ("y",)]


def test_latex_has_each_table_once():
    text = as_latex([TABLE, TABLE])
    assert text.startswith("% \\usepackage{booktabs}\n\\begin{table}")
    assert text.count(r"\caption{Results. Scores $\times$ 100.") == 2


def test_csv_keeps_every_digit_and_quotes():
    rows: Sequence[dict[str, object]] = [{"a": 1 / 3, "b": 'x,"y"', "other": 1}, {"a": None}]
    text = as_csv(("a", "b"), rows)
    first, second = csv.DictReader(io.StringIO(text))
    assert float(first["a"]) == 1 / 3
    assert (first["b"], second) == ('x,"y"', {"a": "", "b": ""})
    assert text.startswith("a,b\n")


MARKED = Table(
    ("masking", "score", "p", "time"),
    (("random", "1", "–", "2 s"), ("learned", "2", "–", "3 s")),
    marks=((1, "best"), (1, "selected")),
    highlighted=frozenset({(1, 3)}),
)


def test_a_column_without_any_value_is_not_shown():
    shown = MARKED.without_empty_columns()
    assert shown.header == ("masking", "score", "time")
    assert shown.rows == (("random", "1", "2 s"), ("learned", "2", "3 s"))
    assert shown.highlighted == {(1, 2)}
    html = render_html(Document("t", sections=[Section("s", [MARKED])]))
    latex, markdown = latex_table(MARKED), table_lines(MARKED)
    for text in (html, latex, markdown, as_text([MARKED])):
        assert " – " not in text
        assert "| p" not in text


def test_marked_rows_say_why():
    html = render_html(Document("t", sections=[Section("s", [MARKED])]))
    assert html.count('<tr class="marked">') == 1
    assert '<span class="mark">best, selected</span></th>' in html
    assert "| **learned (best, selected)** | 2 | **3 s** |" in table_lines(MARKED)
    assert r"\textbf{learned (best, selected)} & 2 & \textbf{3 s} \\" in latex_table(MARKED)
    assert "learned (best, selected)" in as_text([MARKED])
