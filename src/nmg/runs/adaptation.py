"""Further pre-training of one model on one corpus, to a folder that transformers loads."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from nmg.config import Config
from nmg.inner.adapt import AdaptResult, adapt
from nmg.inner.fit import FitResult
from nmg.inner.lm import PretrainedLM
from nmg.inner.masks import DrawnMasks
from nmg.masking.base import Masking
from nmg.policies.named import load_masking
from nmg.reporter import Reporter, Silent
from nmg.seeding import StreamName
from nmg.tasks.load import load_corpus_texts
from nmg.workbench import ModelBench, check_output


def adapt_corpus(config: Config, masking: str | Masking, out: Path, reporter: Reporter | None = None) -> AdaptResult:
    """Adapt `config.model` to the text of `config.data.corpus` and save model, tokenizer and nmg.json into `out`.

    `masking` is a name, a policy's folder, or a masking of your own. Raises UserError for bad settings, text, model or
    policy, and where `out` is not empty.
    """
    check_output(out)
    texts = load_corpus_texts(config.data)
    bench = ModelBench.open(config, reporter or Silent())
    corpus = bench.corpus(texts)
    if isinstance(masking, str):
        masking = load_masking(masking, bench.lm, corpus, config.masking, test=config.test)
    bench.warm_up_head(corpus)
    result = AdaptResult(FitResult(0, float("nan"), 0.0), 0, 0)
    if masking.name != "none":
        masks = DrawnMasks(corpus, masking, config.test.policy_sees)
        result = adapt(bench.arena, masks, StreamName(config.run.seed) / "adapt")
    facts = {
        "masking": masking.name,
        "settings": config.model_dump(mode="json"),
        "corpus_digest": corpus.digest,
        "steps": result.fit.steps,
        "masked_tokens": result.masked_tokens,
        "seconds": result.fit.seconds,
    }
    if bench.runtime.is_first:
        save_lm(bench.lm, out, {"nmg.json": json.dumps(facts, indent=1) + "\n"})
    return result


def save_lm(lm: PretrainedLM, folder: Path, texts: Mapping[str, str] | None = None) -> None:
    """A folder that `transformers` loads (`pipeline("fill-mask", folder)`), complete from the moment it exists.

    `texts`: further files, name → content.
    """
    aside = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(aside, ignore_errors=True)
    lm.model.save_pretrained(aside)
    lm.tokenizer.save_pretrained(aside)
    for name, text in (texts or {}).items():
        (aside / name).write_text(text, encoding="utf-8")
    if folder.is_dir():
        folder.rmdir()  # an empty folder the user made
    aside.rename(folder)
