"""Further pre-training of one model on one corpus, saved in a folder that transformers loads."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError

from nmg.base.distributed import as_one, is_main_process
from nmg.base.files import as_json, cannot_write
from nmg.base.outputs import PARTIAL, check_output, output_lock
from nmg.base.progress import Reporter, Silent
from nmg.base.seeding import StreamName
from nmg.config import Config
from nmg.masking.base import Masking
from nmg.policies.maskings import load_masking, masking_identity
from nmg.tasks.loaded import load_corpus_texts
from nmg.training.adapt import AdaptResult, adapt
from nmg.training.fit import FitResult
from nmg.training.lm import PretrainedLM
from nmg.training.masks import DrawnMasks
from nmg.trials.session import ModelSession

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
    with as_one(), output_lock(out):
        texts = load_corpus_texts(config.data)
        session = ModelSession.open(config, reporter or Silent()).preflight(texts)
        corpus = session.corpus(texts)
        reads: dict[str, str] = {}
        if isinstance(masking, str):
            reads = masking_identity(masking, config.masking)
            masking = load_masking(
                masking, session.lm, corpus, config.masking, test=config.test, reporter=session.reporter
            )
        session.warm_up_head(corpus)
        result = AdaptResult(FitResult(0, float("nan"), 0.0), 0, 0)
        if masking.name != "none":
            masks = DrawnMasks(corpus, masking, config.test.remask)
            result = adapt(session.context, masks, StreamName(config.run.seed) / "adapt")
        facts = {
            "masking": masking.name,
            "masking_reads": reads,
            "settings": config.model_dump(mode="json"),
            "corpus_digest": corpus.digest,
            "steps": result.fit.steps,
            "masked_tokens": result.masked_tokens,
            "seconds": result.fit.seconds,
        }
        if is_main_process():
            save_lm(session.lm, out, {"nmg.json": as_json(facts, indent=1) + "\n"})
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
