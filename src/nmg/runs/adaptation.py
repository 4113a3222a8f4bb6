"""Further pre-training of one model on one corpus, saved in a folder that transformers loads."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError

from nmg.config import Config
from nmg.files import as_json, cannot_write
from nmg.inner.adapt import AdaptResult, adapt
from nmg.inner.fit import FitResult
from nmg.inner.lm import PretrainedLM
from nmg.inner.masks import DrawnMasks
from nmg.masking.base import Masking
from nmg.policies.named import load_masking, masking_identity
from nmg.reporter import Reporter, Silent
from nmg.runs.outputs import PARTIAL, check_output, sole_writer
from nmg.seeding import StreamName
from nmg.tasks.load import load_corpus_texts
from nmg.together import as_one, is_first_process
from nmg.workbench import ModelBench

MODEL_CONFIG = "config.json"


def adapt_corpus(config: Config, masking: str | Masking, out: Path, reporter: Reporter | None = None) -> AdaptResult:
    """Adapt `config.model` to the text of `config.data.corpus`, and save model, tokenizer and nmg.json in `out`.

    Args:
        config: The settings of the run.
        masking: The name of a masking, the folder of a policy, or a custom masking.
        out: The output folder; it must be empty or missing.
        reporter: Receives messages for the user; None for no messages.

    Returns:
        Number of steps, mean loss, wall time, and number of masked tokens.

    Raises:
        UserError: Settings, text, model or policy are invalid, `out` cannot be used, or training diverges.
    """
    with as_one():
        check_output(out)
    with as_one(), sole_writer(out):
        texts = load_corpus_texts(config.data)
        bench = ModelBench.open(config, reporter or Silent()).preflight(texts)
        corpus = bench.corpus(texts)
        reads: dict[str, str] = {}
        if isinstance(masking, str):
            reads = masking_identity(masking, config.masking)
            masking = load_masking(masking, bench.lm, corpus, config.masking, test=config.test, reporter=bench.reporter)
        bench.warm_up_head(corpus)
        result = AdaptResult(FitResult(0, float("nan"), 0.0), 0, 0)
        if masking.name != "none":
            masks = DrawnMasks(corpus, masking, config.test.policy_sees)
            result = adapt(bench.arena, masks, StreamName(config.run.seed) / "adapt")
        facts = {
            "masking": masking.name,
            "masking_reads": reads,
            "settings": config.model_dump(mode="json"),
            "corpus_digest": corpus.digest,
            "steps": result.fit.steps,
            "masked_tokens": result.masked_tokens,
            "seconds": result.fit.seconds,
        }
        if is_first_process():
            save_lm(bench.lm, out, {"nmg.json": as_json(facts, indent=1) + "\n"})
    return result


def save_lm(lm: PretrainedLM, folder: Path, texts: Mapping[str, str] | None = None) -> None:
    """Save model and tokenizer in a folder that `transformers` loads (`pipeline("fill-mask", folder)`).

    The files are first written to a subfolder, because `folder` may be a mount point that cannot be renamed. The
    model's config.json is moved last, so an incomplete folder does not load.

    Args:
        lm: The model and its tokenizer.
        folder: The output folder, created if it is missing.
        texts: Names of further files → their content.

    Raises:
        UserError: The files cannot be written.
    """
    aside = folder / PARTIAL
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        lm.model.save_pretrained(aside)
        lm.tokenizer.save_pretrained(aside)
        for name, text in (texts or {}).items():
            (aside / name).write_text(text, encoding="utf-8")
        for path in sorted(aside.iterdir(), key=lambda path: path.name == MODEL_CONFIG):
            path.replace(folder / path.name)
        aside.rmdir()
    except (OSError, SafetensorError) as error:
        raise cannot_write(folder, error) from error


def is_saved(folder: Path) -> bool:
    """Whether `save_lm` has written the complete folder."""
    return (folder / MODEL_CONFIG).is_file()
