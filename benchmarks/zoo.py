"""Which masked language models nmg works with: `python -m benchmarks.zoo [--quick] [--only TYPES] [--out FILE]`.

A small random model of every architecture is adapted, and then fine-tuned on each task. A case *works*, or nmg refuses
it before any training, with one sentence. Anything else is a fault, and the exit code is 1.
"""

import argparse
import json
import logging
import random
import shutil
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import nmg
from benchmarks.zoo_models import FAMILIES, READ_IMAGES, WORDS, family_of, save_model
from nmg.base.errors import UserError
from nmg.base.files import write_text
from nmg.base.progress import Progress

QUICK = ("bert", "big_bird", "longformer", "eurobert", "esm", "distilbert")
"""types of a quick run"""
TASKS = ("classification", "qa", "token-classification")
COLUMNS = ("adapt", "adapt on the corpus's words", *TASKS)
State = Literal["works", "refused", "fault"]


@dataclass(frozen=True)
class Case:
    """What became of one model at one job."""

    model: str
    family: str
    job: str
    state: State
    said: str = ""
    """the refusal, or what went wrong; of a case that works, what the user is told of it"""


@dataclass
class Watch:
    """A reporter that knows whether training has begun."""

    lines: list[str] = field(default_factory=list)
    has_trained: bool = False

    def notify(self, line: str) -> None:
        self.lines.append(line)

    def steps(self, phase: str) -> Progress:
        self.has_trained = self.has_trained or phase.startswith(("adapting", "fine-tuning", "LM "))
        return lambda _done, _total: None


def kinds() -> list[str]:
    """Every type of model of transformers that has a masked LM, and reads text alone."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    return sorted(set(MODEL_FOR_MASKED_LM_MAPPING_NAMES) - READ_IMAGES)


def write_data(folder: Path) -> dict[str, Path]:
    """A corpus, and a file for each task; texts of 3 to 60 words."""
    draw = random.Random(0)
    texts = [" ".join(draw.choices(WORDS, k=draw.randint(3, 60))) for _ in range(24)]
    questions = [
        {
            "id": str(n),
            "question": " ".join(text.split()[:3]),
            "answers": [{"text": word, "answer_start": text.index(word)}],
        }
        for n, text in enumerate(texts)
        for word in [text.split()[-1]]
    ]
    squad = {
        "data": [
            {"title": "t", "paragraphs": [{"context": t, "qas": [q]} for t, q in zip(texts, questions, strict=True)]}
        ]
    }
    rows = [{"text": text, "label": "long" if len(text) > 150 else "short"} for text in texts]
    words = [[f"{word}\t{'B-PLACE' if word[0].isupper() else 'O'}\n" for word in text.split()] for text in texts]
    files = {
        "corpus": ("corpus.txt", "\n".join(texts) + "\n"),
        "classification": ("rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows)),
        "qa": ("questions.json", json.dumps(squad)),
        "token-classification": ("words.conll", "\n".join("".join(lines) for lines in words)),
    }
    for name, text in files.values():
        (folder / name).write_text(text, encoding="utf-8")
    return {name: folder / file for name, (file, _) in files.items()}


def settings(model: Path, *given: str) -> Any:
    sizes = (
        *("adapt.epochs=1", "adapt.batch_size=8", "adapt.block_size=60", "masking.rate=0.15"),
        *("finetune.max_length=96", "finetune.stride=16", "finetune.max_question_length=24", "finetune.epochs=1"),
        *("finetune.batch_size=8", "test.adapt_epochs=1", "test.finetune_epochs=1", "model.head_warmup_steps=0"),
        *("runtime.threads=1", "runtime.processes=1", "runtime.trackers=[]", "data.test_examples=12"),
    )
    return nmg.load_config(None, [f"--{one}" for one in (f"model.name={model}", *sizes, *given)])


def jobs(data: dict[str, Path], model: Path, out: Path) -> Iterable[tuple[str, Callable[[Watch], None]]]:
    """Name of each job, and what does it."""

    def adapt(vocabulary: str) -> Callable[[Watch], None]:
        given = settings(model, f"data.corpus={data['corpus']}", f"adapt.vocabulary={vocabulary}")
        return lambda watch: _adapt(given, out / vocabulary, watch)

    def compare(task: str) -> Callable[[Watch], None]:
        file = data[task]
        given = settings(model, f"data.task={task}", f"data.train={file}", f"data.test={file}")
        return lambda watch: _compare(given, out / task, watch)

    yield COLUMNS[0], adapt("all")
    yield COLUMNS[1], adapt("corpus")
    for task in TASKS:
        yield task, compare(task)


def _adapt(config: Any, out: Path, watch: Watch) -> None:
    from transformers import AutoModelForMaskedLM

    nmg.adapt(config, masking="whole-word", out=out, reporter=watch)
    _, report = AutoModelForMaskedLM.from_pretrained(out, trust_remote_code=False, output_loading_info=True)
    if report["missing_keys"]:
        raise RuntimeError(f"the saved model lacks {sorted(report['missing_keys'])[:3]}")


def _compare(config: Any, out: Path, watch: Watch) -> None:
    nmg.compare(config, ["whole-word"], out, seeds=1, reporter=watch)
    for failed in (out / "errors").glob("*.txt"):
        raise RuntimeError(failed.read_text("utf-8").strip().splitlines()[-1])


def run_case(name: str, family: str, job: str, work: Callable[[Watch], None]) -> Case:
    watch = Watch()
    try:
        work(watch)
    except UserError as error:
        said = " ".join(str(error).split())
        return Case(name, family, job, "fault" if watch.has_trained else "refused", said)
    except Exception as error:
        traceback.print_exc()
        return Case(name, family, job, "fault", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
    told = [line for line in watch.lines if line.startswith("runtime.precision")]
    return Case(name, family, job, "works", told[0] if told else "")


def run_model(kind: str, family: str, data: dict[str, Path], folder: Path) -> list[Case]:
    """All jobs of one model."""
    model, out = folder / f"{kind}-{family}", folder / "out"
    try:
        save_model(kind, family, model)
    except Exception as error:
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        return [
            Case(kind, family, "make", "refused", f"transformers cannot make it small from a configuration: {said}")
        ]
    cases = []
    for job, work in jobs(data, model, out):
        cases.append(run_case(kind, family, job, work))
        shutil.rmtree(out, ignore_errors=True)
    shutil.rmtree(model)
    return cases


def markdown(cases: Sequence[Case]) -> str:
    """A row a model, then the sentences of refusals."""
    rows: dict[tuple[str, str], dict[str, Case]] = {}
    for case in cases:
        rows.setdefault((case.model, case.family), {})[case.job] = case
    lines = [f"| model | tokenizer | {' | '.join(COLUMNS)} |", "| --- " * (len(COLUMNS) + 2) + "|"]
    notes: dict[str, int] = {}
    for (model, family), found in rows.items():
        cells = []
        for job in COLUMNS:
            one = found.get(job) or found.get("make")
            number = f" [{notes.setdefault(_plain(one), len(notes) + 1)}]" if one and one.said else ""
            cells.append("–" if one is None else f"{one.state}{number}")
        lines.append(f"| {model} | {family} | {' | '.join(cells)} |")
    counts = [sum(case.state == state for case in cases) for state in ("works", "refused", "fault")]
    lines += ["", f"{counts[0]} cases work, {counts[1]} are refused before training, {counts[2]} are faults.", ""]
    return "\n".join([*lines, *(f"{number}. {said}" for said, number in notes.items())]) + "\n"


def _plain(case: Case) -> str:
    """What was said, without folders of this machine."""
    words = case.said.split("'")
    return "'".join(Path(word).name if word.startswith("/") else word for word in words)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.zoo", description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{', '.join(QUICK)} alone: under a minute")
    parser.add_argument("--only", help="types of models, separated by commas")
    parser.add_argument("--out", type=Path, help="a file for the table (markdown)")
    arguments = parser.parse_args()
    quiet()
    chosen = arguments.only.split(",") if arguments.only else list(QUICK) if arguments.quick else kinds()
    models = [(kind, family_of(kind)) for kind in chosen]
    if not arguments.only and not arguments.quick:
        crossed = ("bert", "roberta", "longformer", "xlm", "jina_embeddings_v3")
        models += [(kind, family) for kind in crossed for family in FAMILIES if family != family_of(kind)]
    cases = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = write_data(folder)
        for kind, family in models:
            found = run_model(kind, family, data, folder)
            print(f"{kind:24s} {family:16s} " + "  ".join(f"{one.job}: {one.state}" for one in found), flush=True)
            cases += found
    table = markdown(cases)
    print(f"\n{table}")
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        write_text(arguments.out, table)
    sys.exit(any(case.state == "fault" for case in cases))


def quiet() -> None:
    """Libraries tell of each small model what nobody needs to know."""
    import transformers

    warnings.filterwarnings("ignore")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("nmg").setLevel(logging.ERROR)


if __name__ == "__main__":
    main()
