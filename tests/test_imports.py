"""Imports point one way (docs/design.md, "Contracts"), and the command line starts without the heavy libraries."""

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from importlib.metadata import version
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest

import nmg
from nmg.base.errors import UserError

SOURCE = Path(__file__).parents[1] / "src"

FLOORS = (
    {"base"},
    {"data", "executors"},
    {"tasks", "masking"},
    {"training"},
    {"policies", "vocabulary"},
    {"learners", "collation"},
    {"config"},
    {"trials"},
    {"meta_training", "adaptation"},
    {"comparison"},
    {"auditing"},
    {"report"},
    {"inspection"},
    {"jobs"},
    {"auto"},
    {"demo"},
    {"cli"},
    {"__main__"},
)
"""Every part of nmg, the lowest first; a part imports from floors below its own, and from itself."""

HEAVY = {"statsmodels", "torch", "transformers", "spacy", "matplotlib", "datasets", "accelerate", "scipy", "pyarrow"}
HEAVY |= {"cmaes", "datasketch"}  # import scipy
NOT_FOR_SETTINGS = HEAVY - {"torch"}


@dataclass(frozen=True)
class Import:
    name: str
    """dotted: the module, and what is taken from it, e.g. `transformers.AutoTokenizer`"""
    at_start: bool
    """runs when the importing module is imported"""
    for_types: bool = False
    """only a type checker reads it"""


def imports_of(source: str) -> Iterator[Import]:
    """Every import of a source text, wherever it stands."""

    def walk(node: ast.AST, at_start: bool, for_types: bool) -> Iterator[Import]:
        match node:
            case ast.Import(names):
                yield from (Import(alias.name, at_start, for_types) for alias in names)
            case ast.ImportFrom(module, names, level):
                assert level == 0, "imports are absolute"
                yield from (Import(f"{module}.{alias.name}", at_start, for_types) for alias in names)
        runs_later = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        only_for_types = node.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) else []
        for child in ast.iter_child_nodes(node):
            typing = for_types or child in only_for_types
            yield from walk(child, at_start and not runs_later and not typing, typing)

    yield from walk(ast.parse(source), at_start=True, for_types=False)


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


IMPORTS = {module_name(path): list(imports_of(path.read_text("utf-8"))) for path in sorted(SOURCE.rglob("*.py"))}


def is_in(name: str, package: str) -> bool:
    return f"{name}.".startswith(f"{package}.")


def edges() -> Iterator[tuple[str, str]]:
    """(module of nmg, what it imports of nmg); the package itself only names what others have"""
    for module, imports in IMPORTS.items():
        if module != "nmg":
            yield from ((module, found.name) for found in imports if is_in(found.name, "nmg"))


def part(name: str) -> str:
    return name.split(".")[1]


def floor(name: str) -> int:
    return next(index for index, parts in enumerate(FLOORS) if part(name) in parts)


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


def test_every_part_has_its_floor():
    parts = [name for parts in FLOORS for name in parts]
    assert sorted(parts) == sorted({part(module) for module in IMPORTS if module != "nmg"})


def test_imports_point_one_way():
    assert len(list(edges())) > 100
    between = [(module, name) for module, name in edges() if part(name) != part(module)]
    assert not [(module, name) for module, name in between if floor(name) >= floor(module)]


def test_no_imports_run_in_a_circle():
    """Nor do those in functions, or those that only a type checker reads: they would hide one."""
    graph: dict[str, set[str]] = {}
    for module, name in edges():
        target = name if name in IMPORTS else name.rpartition(".")[0]
        if target != module:
            graph.setdefault(module, set()).add(target)
    assert list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the modules


@pytest.mark.parametrize(
    ("package", "hidden"),
    [
        ("nmg.learners", "nmg.tasks"),
        ("nmg.learners", "nmg.data"),
        ("nmg.learners", "nmg.training"),
        ("nmg.masking", "nmg.policies"),
        ("nmg.policies", "nmg.learners"),
        ("nmg.training", "nmg.learners"),
        ("nmg.executors", "nmg.training"),
        ("nmg.meta_training.loop", "nmg.learners.actor_critic"),
        ("nmg.meta_training", "nmg.learners.actor_critic"),
    ],
)
def test_what_a_package_does_not_see(package: str, hidden: str):
    assert not [edge for edge in edges() if is_in(edge[0], package) and is_in(edge[1], hidden)]


RUNS = ("executors", "training", "demo", "jobs", "trials.session", "trials.trial", "trials.episode")
RUNS += ("adaptation.adapt", "adaptation.recorder", "adaptation.held_out", "adaptation.length", "adaptation.examples")
RUNS += ("comparison.run", "comparison.worker", "auditing.run", "meta_training.run", "meta_training.loop")


def test_the_report_runs_nothing():
    """It renders records; `jobs` run something and then call it."""
    used = [(module, name) for module, name in edges() if is_in(module, "nmg.report")]
    assert used
    assert not [edge for edge in used if any(is_in(edge[1], f"nmg.{one}") for one in RUNS)]
    assert all(any(is_in(module, f"nmg.{one}") for module in IMPORTS) for one in RUNS), "a name has changed"
    jobs = {"compare", "compared", "audit", "learn", "adapt", "adapt_corpus", "analyse"}
    for path in (SOURCE / "nmg" / "report").glob("*.py"):
        calls = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
        assert not jobs & {ast.unparse(call.func).rpartition(".")[2] for call in calls}, path.name


def test_learners_see_no_tokenizer():
    names = [found.name for module, imports in IMPORTS.items() if is_in(module, "nmg.learners") for found in imports]
    assert names
    assert not [name for name in names if "tokenizer" in name.lower()]


@pytest.mark.parametrize("word", ["classification", "qa", "token-classification"])
def test_no_task_is_named_outside_of_tasks(word: str):
    """Generic code knows no task's name; the demo has data of its own for each."""
    named = [
        str(path.relative_to(SOURCE))
        for path in SOURCE.rglob("*.py")
        if f'"{word}"' in path.read_text("utf-8") and not {"tasks", "demo"} & set(path.relative_to(SOURCE).parts)
    ]
    assert named == (["nmg/base/settings.py"] if word == "classification" else []), "but for the default of data.task"


def test_the_command_line_imports_nothing_heavy_before_it_must():
    """`nmg --help` is quick: neither a command's module nor one that it imports at its start imports these."""
    for module in IMPORTS:
        if is_in(module, "nmg.cli"):
            assert not {name.partition(".")[0] for name in at_start(module, {module})} & HEAVY, module


def test_settings_need_nothing_heavier_than_torch():
    """A mistake in a configuration is said within two seconds."""
    assert not {name.partition(".")[0] for name in at_start("nmg.config", {"nmg.config"})} & NOT_FOR_SETTINGS


def test_the_public_names_are_there_and_lazy():
    for name in nmg.__all__:
        assert getattr(nmg, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = nmg.nothing
    assert set(nmg._PLACES) == set(nmg.__all__)
    parts = {part(module) for module in IMPORTS if module != "nmg"}
    assert not parts & set(nmg.__all__), "importing the part would replace the public name"


CALLS = ("load_config", "learn", "adapt", "compare", "audit", "estimate", "inspect", "load_masking", "load_policy")


@pytest.mark.parametrize("name", [*CALLS, "MaskingCollator", "Session.prepare"])
def test_public_calls_are_documented(name: str):
    call: Any = attrgetter(name)(nmg)
    text = inspect.getdoc(call) or ""
    titles = ["Args:", *(() if inspect.isclass(call) else ("Returns:",)), "Raises:", "Example:"]
    found = [line for line in text.splitlines() if line in titles]
    assert found == titles
    parameters = inspect.signature(call).parameters.values()
    assert parameters
    for parameter in parameters:
        assert parameter.annotation is not inspect.Parameter.empty, parameter.name
        is_rest = parameter.kind is inspect.Parameter.VAR_KEYWORD
        assert f"    {parameter.name}:" in text or is_rest, parameter.name
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    compile(inspect.cleandoc(example), name, "exec")
    assert name in example


def test_the_package_shows_its_public_names_alone():
    assert dir(nmg) == sorted([*nmg.__all__, "__version__"])
    assert not [name for name in vars(nmg) if not name.startswith("_") and name not in nmg.__all__ and part_of(name)]
    assert nmg.__version__ == version("nmg")
    assert nmg.UserError is UserError


def part_of(name: str) -> bool:
    """Whether a name of the package is anything but one of its parts, which are there once they are imported."""
    return f"nmg.{name}" not in IMPORTS


def test_importing_the_package_imports_the_standard_library_alone():
    """So it takes a few hundredths of a second; each name brings what it needs when it is first asked for."""
    script = """
import sys
before = set(sys.modules)
import nmg
new = {name.partition(".")[0] for name in set(sys.modules) - before}
assert new <= {"nmg", *sys.stdlib_module_names}, new
assert "importlib.metadata" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_reader_of_imports_sees_them_all():
    source = """
import torch.nn as nn
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from transformers import AutoTokenizer
else:
    import spacy
class C:
    from nmg import policies
    def f(self):
        import matplotlib
        return lambda: __import__("os")
try:
    from nmg.policies.base import Policy, predict
except ImportError:
    pass
"""
    found = {(one.name, one.at_start) for one in imports_of(source)}
    assert found == {
        ("torch.nn", True),
        ("typing.TYPE_CHECKING", True),
        ("transformers.AutoTokenizer", False),
        ("spacy", True),
        ("nmg.policies", True),
        ("matplotlib", False),
        ("nmg.policies.base.Policy", True),
        ("nmg.policies.base.predict", True),
    }
    assert [one.name for one in imports_of(source) if one.for_types] == ["transformers.AutoTokenizer"]
