"""Names that mean something elsewhere: to matplotlib, to HTML, to a browser, to a terminal."""

import json
import re
from pathlib import Path

import pytest

from nmg.comparison.statistics import Estimate
from nmg.policies.attention import AttentionConfig, AttentionPolicy
from nmg.report.curve_plots import score_curves
from nmg.report.document import Details, Document, Facts, Figure, Paragraph, Section, Table
from nmg.report.html import render_html
from nmg.report.plots import forest_plot, results_plot
from nmg.report.run_plots import Panel, bars_plot, curves_plot
from nmg.report.terminal import as_rich
from support.command import Nmg
from support.runs import Inputs

NAMES = (
    "a$x$b",
    "$\\frac$",
    "$",
    "$$",
    "\\$1$",
    "_hidden",
    "</script><script>alert(1)</script>",
    "--><b>",
    "<![CDATA[",
    'id="x" href="#y" url(#z)',
    "#010203",
    "a & b",
    "%(x)s {y} %",
    "\u202egnp.exe",
    "[bold]",
)


def texts_of(svg: str) -> list[str]:
    """What the figure says."""
    assert "<script" not in svg
    found = re.findall(r"<text[^>]*>(.*?)</text>", svg, flags=re.DOTALL)
    return [text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") for text in found]


@pytest.mark.parametrize(
    "name", [*NAMES[:2], *(pytest.param(name, marks=pytest.mark.slow) for name in NAMES[2:-2]), *NAMES[-2:]]
)
def test_figures_show_names_as_they_are(name: str):
    """A pair of dollars was read as a formula, and one that is none ended a comparison after its last cell."""
    estimate = Estimate(n=2, mean=0.5, deviation=0.1, low=0.4, high=0.6)
    legend = {name, f"\u200b{name}"}
    for svg in (
        results_plot({name: [0.1, 0.2], "random": [0.3]}, "accuracy", title=name),
        forest_plot([(name, 0.1, 0.0, 0.2)], name, title=name),
        score_curves({name: [(4, estimate), (16, estimate)]}, "accuracy", name, {"none": 0.3}, title=name),
        curves_plot([Panel(name, {name: [1e-3, 1.0, 1e3]}, may_be_logarithmic=True)], name),
        bars_plot({name: [1.0, 2.0]}, name, name),
    ):
        assert legend & set(texts_of(svg))


def test_a_logarithmic_axis_has_numbers_and_no_formulas():
    shown = texts_of(curves_plot([Panel("ratio", {"a": [1e-3, 1.0, 1e3]}, may_be_logarithmic=True)], "t"))
    assert {"0.001", "1", "1000"} <= set(shown)
    assert not [text for text in shown if "$" in text]


@pytest.mark.parametrize("name", NAMES)
def test_pages_show_names_as_they_are(name: str):
    table = Table((name, name), ((name, name),), (name,))
    blocks = [Paragraph(name), Facts(((name, name),)), Details(name, name), table, Figure("<svg></svg>", name)]
    html = render_html(Document(name, name, [Section(name, blocks)]))
    assert "<script" not in html
    assert "<b>" not in html
    assert "<![CDATA[" not in html


def test_a_page_may_run_no_script():
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="(.*?)"', render_html(Document("t")))
    assert policy.startswith("default-src &#39;none&#39;;")
    assert "script-src" not in policy


def test_a_table_on_a_terminal_does_not_steer_it(capsys: pytest.CaptureFixture[str]):
    from rich.console import Console

    Console(width=80).print(as_rich(Table(("name",), (("\x1b[2J\u202e",),))))
    assert "\\x1b[2J\\u202e" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["a$x$", "../../</script><script>alert(1)</script>"])
def test_a_whole_comparison_of_a_policy_with_such_a_name(nmg: Nmg, inputs: Inputs, tmp_path: Path, name: str):
    config = inputs.write_config(tmp_path / "c.yaml")
    AttentionPolicy(AttentionConfig(hidden_size=16, num_attention_heads=2)).save_pretrained(tmp_path / "policy")
    words = ("--policies", f"{name}=policy", "--maskings", "none", "--seeds", "2", "--out", "out")
    answer = nmg("compare", config, *words)
    assert answer.code == 0, answer.err
    html = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "<script" not in html
    results = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    assert name in {cell["masking"] for cell in results["cells"]}
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {"c.yaml", "policy", "out"}, "nothing beside the folder"
