"""Contrast of the pages' colours, computed from the style sheets by the formula of WCAG 2.1."""

import re
from importlib.resources import files

import pytest

Colour = tuple[int, int, int]
NORMAL_TEXT = 4.5
"""Minimum contrast of text of normal size."""
TEXT = ("ink", "muted", "link", "mark", *(f"series-{number}" for number in range(1, 7)))


def style(package: str, name: str) -> str:
    return (files(package) / "templates" / name).read_text(encoding="utf-8")


def colours(mode: str) -> dict[str, Colour]:
    """The variables of both style sheets in one mode, the later ones first."""
    found: dict[str, Colour] = {}
    for sheet in (style("nmg.report", "page.css"), style("nmg.inspection", "inspect.css")):
        dark = "".join(re.findall(r"@media \(prefers-color-scheme: dark\) \{\s*:root \{(.*?)\}", sheet, re.DOTALL))
        light = sheet.replace(dark, "") if dark else sheet
        for name, value in re.findall(r"--([\w-]+): ([^;]+);", light + (dark if mode == "dark" else "")):
            if re.fullmatch(r"#[\da-f]{6}", value):
                found[name] = (int(value[1:3], 16), int(value[3:5], 16), int(value[5:7], 16))
            elif re.fullmatch(r"\d+ \d+ \d+", value):
                red, green, blue = map(int, value.split())
                found[name] = (red, green, blue)
    return found


def luminance(colour: Colour) -> float:
    parts = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in (part / 255 for part in colour)]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(one: Colour, other: Colour) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_by_hand():
    assert contrast((0, 0, 0), (255, 255, 255)) == 21
    assert contrast((118, 118, 118), (255, 255, 255)) == pytest.approx(4.54, abs=0.005)  # the known limit, #767676


@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize("ground", ["paper", "panel"])
@pytest.mark.parametrize("text", TEXT)
def test_text_can_be_read_on_its_ground(mode: str, ground: str, text: str):
    found = colours(mode)
    assert contrast(found[text], found[ground]) >= NORMAL_TEXT


@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize("shade", ["shade", "shade-less"])
def test_text_can_be_read_on_the_darkest_shade(mode: str, shade: str):
    found = colours(mode)
    assert contrast(found["ink"], found[shade]) >= NORMAL_TEXT


def test_both_modes_have_their_own_colours():
    light, dark = colours("light"), colours("dark")
    assert light.keys() == dark.keys()
    assert luminance(light["paper"]) > 0.9
    assert luminance(dark["paper"]) < 0.05
