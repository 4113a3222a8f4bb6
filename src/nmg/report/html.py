"""Renders a document as one self-contained HTML page."""

import re
from collections.abc import Sequence
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

from nmg.base.files import write_text
from nmg.report.document import Block, Document, paragraphs, spans

SECURITY_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
"""Content security policy of the page: forbids all scripts, and allows the inline styles of shades and figures."""


OPTION = re.compile(r"(?<=\s)--[\w.-]+")
"""The name of an option of a command, in which a browser would break a line after a hyphen."""


def render_html(document: Document) -> str:
    """Return the document as an HTML page that loads no other files: style and figures are inline."""
    template = environment().get_template("page.html.j2")
    return template.render(page=document, security_policy=SECURITY_POLICY)


def render_blocks(blocks: Sequence[Block]) -> str:
    """Return blocks as HTML without a page around them, for the output of a notebook cell."""
    template = environment().get_template("part.html.j2")
    return template.render(parts=blocks)


def write_html(path: Path, document: Document) -> None:
    """Write the document as HTML to the file `path`, which is replaced atomically."""
    write_text(path, render_html(document))


def environment(package: str = "nmg.report") -> jinja2.Environment:
    """Return the Jinja environment for the templates of a package and those of `nmg.report`.

    The template `blocks.html.j2` has one macro for each class of `document`, with the name of the class.
    """
    found = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(package), jinja2.PackageLoader("nmg.report")]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"kind": _kind, "inline": _inline, "paragraphs": paragraphs, "trusted": Markup}
    return found


def _kind(block: Block) -> str:
    return type(block).__name__


def _inline(text: str) -> Markup:
    """Escape text and replace the markup of `spans` by HTML tags. The name of an option stays in one line."""
    tags = {"plain": "{}", "code": "<code>{}</code>", "strong": "<strong>{}</strong>"}
    shown = Markup("").join(Markup(tags[kind]).format(escape(part)) for kind, part in spans(text))
    return Markup(OPTION.sub(r'<span class="option">\g<0></span>', str(shown)))
