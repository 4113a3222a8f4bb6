"""Further pre-training of one model on one corpus, to a folder that transformers loads."""

import json
from pathlib import Path

from nmg.config import Config
from nmg.data.task_data import load_corpus_texts
from nmg.inner.adapt import AdaptResult
from nmg.inner.fit import FitResult
from nmg.inner.runtime import Runtime
from nmg.meta_test import adapt_lm, resolve_masking, save_lm
from nmg.reporter import Reporter
from nmg.seeding import StreamName
from nmg.setup import build_corpus, load_lm, warm_up_missing_head


def adapt_corpus(config: Config, masking: str, out: Path, reporter: Reporter) -> AdaptResult:
    """Adapt `config.model` to the text of `config.data.corpus` and save model, tokenizer and nmg.json into `out`.

    `masking` is a name or a policy's folder. Raises UserError for bad settings, text, model or policy.
    """
    texts = load_corpus_texts(config.data)
    runtime = Runtime.start(config.runtime)
    lm = load_lm(config, runtime)
    corpus = build_corpus(config, lm, texts)
    policy = resolve_masking(masking, lm, corpus, config.masking, None)
    warm_up_missing_head(lm, config, runtime, corpus, reporter)
    result = AdaptResult(FitResult(0, float("nan"), 0.0), 0, 0)
    if masking != "none":
        result = adapt_lm(lm, corpus, policy, config, runtime, StreamName(config.run.seed) / "adapt", reporter)
    facts = {
        "masking": masking,
        "settings": config.model_dump(mode="json"),
        "corpus_digest": corpus.digest,
        "steps": result.fit.steps,
        "masked_tokens": result.masked_tokens,
        "seconds": result.fit.seconds,
    }
    save_lm(lm, out, {"nmg.json": json.dumps(facts, indent=1) + "\n"})
    return result
