"""Further pre-training of one model on one corpus, saved in a folder that transformers loads."""

from pathlib import Path
from typing import Any

import numpy as np

from nmg.adaptation.held_out import CorpusSplit, HeldOutLoss, split_corpus
from nmg.adaptation.result import AdaptationResult, HeldOutResult
from nmg.adaptation.save import save_lm
from nmg.base.distributed import as_one, is_main_process
from nmg.base.files import as_json
from nmg.base.outputs import check_output, output_lock
from nmg.base.progress import Reporter, Silent
from nmg.base.seeding import StreamName
from nmg.base.trial import TrainingStats
from nmg.config import Config
from nmg.masking.base import Masking
from nmg.policies.maskings import load_masking, masking_identity
from nmg.tasks.loaded import load_corpus_texts
from nmg.training.adapt import adapt
from nmg.training.masks import DrawnMasks
from nmg.trials.session import ModelSession


def adapt_corpus(
    config: Config, masking: str | Masking, out: Path, reporter: Reporter | None = None
) -> AdaptationResult:
    """Adapt `config.model` to the text of `config.data.corpus`, and save model, tokenizer and nmg.json in `out`.

    Args:
        config: The settings of the run.
        masking: The name of a masking, the folder of a policy, or a custom masking.
        out: The output folder; it must be empty or missing.
        reporter: Receives messages for the user; None for no messages.

    Returns:
        Losses, number of steps and tokens, and wall time.

    Raises:
        UserError: Settings, text, model or policy are invalid, `out` cannot be used, or training diverges.
    """
    with as_one():
        check_output(out)
    with as_one(), output_lock(out):
        texts = load_corpus_texts(config.data)
        session = ModelSession.open(config, reporter or Silent()).preflight(texts)
        randomness = StreamName(config.run.seed) / "adapt"
        split = split_corpus(
            texts, session.corpus(texts), config.adapt.held_out, randomness / "held-out", session.reporter
        )
        corpus = split.training
        reads: dict[str, str] = {}
        if isinstance(masking, str):
            reads = masking_identity(masking, config.masking)
            masking = load_masking(
                masking, session.lm, corpus, config.masking, test=config.test, reporter=session.reporter
            )
        session.warm_up_head(corpus)
        result = _train(session, split, masking, out)
        facts: dict[str, Any] = {
            **result.to_json(),
            "masking_reads": reads,
            "settings": config.model_dump(mode="json"),
            "corpus_digest": corpus.digest,
        }
        if is_main_process():
            save_lm(session.lm, out, {"nmg.json": as_json(facts, indent=1) + "\n"})
    return result


def _train(session: ModelSession, split: CorpusSplit, masking: Masking, out: Path) -> AdaptationResult:
    """Train the model of `session` in place, and measure its loss on held-out text before and after."""
    context, config = session.context, session.config
    randomness = StreamName(config.run.seed) / "adapt"
    held_out = None
    if split.held_out is not None:
        held_out = HeldOutLoss.build(context, split.held_out, randomness / "held-out")
    losses = [] if held_out is None else [held_out.of(context)]
    trained = TrainingStats()
    if masking.name != "none":
        trained = adapt(context, DrawnMasks(split.training, masking, config.test.remask), randomness)
    measured = None
    if held_out is not None:
        losses.append(held_out.of(context))
        best = int(np.argmin(losses))
        sizes = (held_out.documents, len(held_out.lengths), held_out.masked_tokens)
        measured = HeldOutResult(losses[0], losses[1], losses[best], best * trained.steps, *sizes)
    return AdaptationResult(
        out=out,
        masking=masking.name,
        steps=trained.steps,
        loss=float("nan") if trained.loss is None else trained.loss,
        seconds=trained.seconds,
        documents=len(np.unique(split.training.context_ids)),
        tokens=trained.tokens,
        masked_tokens=trained.masked_tokens,
        near_duplicates=split.near_duplicates,
        held_out=measured,
    )
