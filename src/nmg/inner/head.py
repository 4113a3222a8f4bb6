"""A new LM head, where the checkpoint has none: trained on the corpus while the encoder stays as it is."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import load_file

from nmg.files import save_tensors
from nmg.inner.arena import Arena
from nmg.inner.fit import FitResult, fit
from nmg.inner.lm import PretrainedLM, masked_lm_loss
from nmg.inner.masks import DrawnMasks
from nmg.masking.rules import RandomMasking
from nmg.seeding import StreamName
from nmg.settings import ModelSettings, OptimiserSettings

if TYPE_CHECKING:
    from nmg.data.corpus import Corpus


def warm_up_missing_head(
    lm: PretrainedLM, arena: Arena, settings: ModelSettings, corpus: "Corpus", seed: int, cache: Path
) -> None:
    """Train a head that the checkpoint lacks, or take the one that the same model, text and settings gave before.

    Where the checkpoint has a head, and where it is to stay as drawn, do nothing.
    """
    if not lm.new_parameters or settings.head_warmup_steps == 0:
        return
    cached = cache / f"head-{_digest(arena, settings, corpus, seed)}.safetensors"
    if cached.is_file():
        lm.model.load_state_dict(load_file(cached, device=str(arena.runtime.device)), strict=False)
        return
    arena.reporter.notify(
        f"'{lm.name}' has no LM head. A new one, tied to its embeddings, is warmed up on the corpus for "
        f"{settings.head_warmup_steps} steps while the encoder stays as it is."
    )
    result = warm_up_head(lm, arena, settings, corpus, head_randomness(seed))
    arena.reporter.notify(
        f"LM head ready: masked-LM loss {result.loss:.2f} after {result.steps} steps, {result.seconds:.0f} s."
    )
    save_tensors(cached, {name: p for name, p in lm.model.named_parameters() if name in lm.new_parameters})


def head_randomness(seed: int) -> StreamName:
    return StreamName(seed) / "head warm-up"


def warm_up_head(
    lm: PretrainedLM, arena: Arena, settings: ModelSettings, corpus: "Corpus", randomness: StreamName
) -> FitResult:
    """Train the parameters the checkpoint lacked, and nothing else, on randomly masked text.

    A head fresh from its initialisation would send noise through the encoder. Only its own weights move: the output
    embeddings stay tied to the input embeddings, and the encoder stays as it was.
    """
    model = lm.model
    new = {name: parameter for name, parameter in model.named_parameters() if name in set(lm.new_parameters)}
    batches = DrawnMasks(corpus, RandomMasking()).start(arena, randomness)
    steps_an_epoch = -(-len(corpus) // arena.adapt.batch_size)
    schedule = OptimiserSettings(
        epochs=-(-settings.head_warmup_steps // steps_an_epoch),
        batch_size=arena.adapt.batch_size,
        learning_rate=settings.head_warmup_learning_rate,
    )
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for parameter in new.values():
        parameter.requires_grad_(True)
    try:
        return fit(
            model,
            corpus.lengths,
            lambda rows: masked_lm_loss(model, batches(rows)),
            schedule,
            arena.runtime,
            randomness,
            parameters=new.values(),
            max_steps=settings.head_warmup_steps,
            progress=arena.reporter.steps("LM head warm-up"),
        )
    finally:
        for parameter in model.parameters():
            parameter.requires_grad_(True)


def _digest(arena: Arena, settings: ModelSettings, corpus: "Corpus", seed: int) -> str:
    digest = hashlib.sha256()
    for part in (settings, arena.masking, arena.adapt):
        digest.update(part.model_dump_json().encode())
    digest.update(f"{seed} {corpus.digest} {arena.runtime.precision} {arena.runtime.device.type}".encode())
    for name, tensor in arena.model.base_model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()[:20]
