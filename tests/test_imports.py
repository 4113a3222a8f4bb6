"""Imports point one way (docs/design.md, "Contracts"), and the command line starts without the heavy libraries."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"

LAYERS = (
    {"errors", "files", "types", "config", "seeding", "reporter"},
    {"data", "tasks", "masking", "rl"},
    {"inner"},
    set(),  # runs: every part that is not named here
    {"cli", "__main__"},
)
"""Parts of nmg; none imports from a layer below it in this list."""
RUNS = 3

HEAVY = {"statsmodels", "torch", "transformers", "spacy", "matplotlib", "datasets", "accelerate", "scipy", "pyarrow"}


@dataclass(frozen=True)
class Import:
    name: str
    """dotted: the module, and what is taken from it, e.g. `transformers.AutoTokenizer`"""
    at_start: bool
    """runs when the importing module is imported"""


def imports_of(source: str) -> Iterator[Import]:
    """Every import of a source text, wherever it stands."""

    def walk(node: ast.AST, at_start: bool) -> Iterator[Import]:
        match node:
            case ast.Import(names):
                yield from (Import(alias.name, at_start) for alias in names)
            case ast.ImportFrom(module, names, level):
                assert level == 0, "imports are absolute"
                yield from (Import(f"{module}.{alias.name}", at_start) for alias in names)
        runs_later = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        only_for_types = node.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) else []
        for child in ast.iter_child_nodes(node):
            yield from walk(child, at_start and not runs_later and child not in only_for_types)

    yield from walk(ast.parse(source), at_start=True)


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


IMPORTS = {module_name(path): list(imports_of(path.read_text("utf-8"))) for path in sorted(SOURCE.rglob("*.py"))}


def is_in(name: str, package: str) -> bool:
    return f"{name}.".startswith(f"{package}.")


def edges() -> Iterator[tuple[str, str]]:
    """(module of nmg, what it imports of nmg)"""
    for module, imports in IMPORTS.items():
        yield from ((module, found.name) for found in imports if is_in(found.name, "nmg"))


def part(name: str) -> str:
    return name.split(".")[1]


def layer(name: str) -> int:
    return next((index for index, parts in enumerate(LAYERS) if part(name) in parts), RUNS)


def at_start(module: str, seen: set[str]) -> set[str]:
    """Names of all that importing `module` imports, through the modules of nmg."""
    names: set[str] = set()
    for found in IMPORTS[module]:
        if not found.at_start:
            continue
        names.add(found.name)
        target = found.name if found.name in IMPORTS else found.name.rpartition(".")[0]
        if target in IMPORTS and target not in seen:
            seen.add(target)
            names |= at_start(target, seen)
    return names


def test_the_layers_name_parts_that_exist():
    assert set().union(*LAYERS) <= {part(module) for module in IMPORTS if module != "nmg"}


def test_imports_point_one_way():
    assert len(list(edges())) > 20
    wrong = [(module, name) for module, name in edges() if layer(name) > layer(module)]
    assert not wrong


@pytest.mark.parametrize(
    ("package", "hidden"),
    [
        ("nmg.rl", "nmg.tasks"),
        ("nmg.rl", "nmg.data"),
        ("nmg.inner", "nmg.rl"),
        ("nmg.data", "nmg.masking"),
        ("nmg.tasks", "nmg.masking"),
        ("nmg.report", "nmg.rl"),
    ],
)
def test_what_a_package_does_not_see(package: str, hidden: str):
    assert not [edge for edge in edges() if is_in(edge[0], package) and is_in(edge[1], hidden)]


def test_masking_sees_of_rl_only_the_network():
    seen = {name for module, name in edges() if is_in(module, "nmg.masking") and is_in(name, "nmg.rl")}
    assert all(is_in(name, "nmg.rl.network") for name in seen), seen


def test_rl_sees_no_tokenizer():
    names = [found.name for module, imports in IMPORTS.items() if is_in(module, "nmg.rl") for found in imports]
    assert names
    assert not [name for name in names if "tokenizer" in name.lower()]


def test_the_command_line_imports_nothing_heavy_before_it_must():
    """`nmg --help` is quick: neither a command's module nor one that it imports at its start imports these."""
    for module in IMPORTS:
        if is_in(module, "nmg.cli"):
            assert not {name.partition(".")[0] for name in at_start(module, {module})} & HEAVY, module


def test_the_reader_of_imports_sees_them_all():
    source = """
import torch.nn as nn
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from transformers import AutoTokenizer
else:
    import spacy
class C:
    from nmg import rl
    def f(self):
        import matplotlib
        return lambda: __import__("os")
try:
    from nmg.rl.network import MaskPolicy, check_fits
except ImportError:
    pass
"""
    found = {(one.name, one.at_start) for one in imports_of(source)}
    assert found == {
        ("torch.nn", True),
        ("typing.TYPE_CHECKING", True),
        ("transformers.AutoTokenizer", False),
        ("spacy", True),
        ("nmg.rl", True),
        ("matplotlib", False),
        ("nmg.rl.network.MaskPolicy", True),
        ("nmg.rl.network.check_fits", True),
    }
