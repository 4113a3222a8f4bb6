"""From settings to everything a run needs: data read and checked, model loaded, head warmed up, text encoded."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file

from nmg.checkpoint import save_tensors
from nmg.config import Config
from nmg.data.corpus import Corpus, default_cache_dir
from nmg.data.task_data import TaskData, load_corpus_texts, load_task_data
from nmg.errors import UserError
from nmg.inner.adapt import warm_up_head
from nmg.inner.lm import PretrainedLM, load_pretrained
from nmg.inner.runtime import Runtime
from nmg.reporter import Reporter
from nmg.seeding import StreamName
from nmg.tasks.base import Task, build_task


@dataclass(frozen=True)
class Workbench:
    """A run's data and model. `lm.model` holds the pre-trained weights (with a warmed-up head) until someone trains."""

    config: Config
    data: TaskData
    task: Task
    lm: PretrainedLM
    runtime: Runtime


def prepare(config: Config, reporter: Reporter) -> Workbench:
    """Read and check all inputs, cheapest first, then load the model and warm up a missing LM head.

    Raises UserError for anything wrong with settings, data or model.
    """
    bench = open_bench(config)
    texts = load_corpus_texts(config.data)
    if bench.lm.new_parameters:
        warm_up_missing_head(bench.lm, config, bench.runtime, build_corpus(config, bench.lm, texts), reporter)
    return bench


def open_bench(config: Config) -> Workbench:
    """All of `prepare` but training: a head that the checkpoint lacks is new and not yet warmed up."""
    data = load_task_data(config.data, config.run.seed)
    runtime = Runtime.start(config.runtime)
    lm = load_lm(config, runtime)
    check_length(lm, "finetune.max_length", config.finetune.max_length)
    task = build_task(config.data.task, lm.tokenizer, data.train, config.finetune)
    check_metric(config, task)
    return Workbench(config, data, task, lm, runtime)


def load_lm(config: Config, runtime: Runtime) -> PretrainedLM:
    """The LM on the runtime's device. Raises UserError for one that does not load or whose positions blocks exceed."""
    with (_head_randomness(config) / "new head").torch():
        lm = load_pretrained(config.model)
    special = lm.tokenizer.num_special_tokens_to_add(pair=False)
    check_length(lm, "adapt.block_size", config.adapt.block_size + special)
    lm.model.to(runtime.device)
    return lm


def warm_up_missing_head(
    lm: PretrainedLM, config: Config, runtime: Runtime, corpus: Corpus, reporter: Reporter
) -> None:
    """Train a head that the checkpoint lacks on `corpus`; where it has one, do nothing."""
    if lm.new_parameters and config.model.head_warmup_steps > 0:
        _warm_up_or_reuse(lm, corpus, config, runtime, _head_randomness(config), reporter)


def _head_randomness(config: Config) -> StreamName:
    return StreamName(config.run.seed) / "head warm-up"


def build_corpus(config: Config, lm: PretrainedLM, texts: list[str]) -> Corpus:
    return Corpus.build(texts, lm.tokenizer, config.adapt.block_size, default_cache_dir(config.runtime.cache_dir))


def check_length(lm: PretrainedLM, name: str, length: int) -> None:
    """Raises UserError where `length` tokens, special tokens included, are more than the model's positions."""
    positions = getattr(lm.model.config, "max_position_embeddings", None)
    if positions is None:
        return
    if lm.model.config.model_type in _POSITIONS_BEHIND_PADDING:
        positions -= lm.tokenizer.pad_token_id + 1
    if length > positions:
        raise UserError(f"{name}: {length} tokens with special tokens, but '{lm.name}' takes at most {positions}")


_POSITIONS_BEHIND_PADDING = {
    *("roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod", "camembert", "mpnet"),
    *("longformer", "data2vec-text", "ibert"),
}
"""Types of models that count positions from the id of the padding token + 1."""


def check_metric(config: Config, task: Task) -> None:
    """Raises UserError where the task does not have the score that players are to be compared by."""
    known = sorted({task.default_metric, *task.table_metrics})
    if config.reward.metric is not None and config.reward.metric not in known:
        raise UserError(
            f"reward.metric: the task '{task.name}' has no score '{config.reward.metric}' (known: {', '.join(known)})"
        )


def _warm_up_or_reuse(
    lm: PretrainedLM,
    corpus: Corpus,
    config: Config,
    runtime: Runtime,
    randomness: StreamName,
    reporter: Reporter,
) -> None:
    """Warm the new head up, or take the one that the same model, text and settings gave before."""
    cached = (
        default_cache_dir(config.runtime.cache_dir) / f"head-{_head_digest(lm, corpus, config, runtime)}.safetensors"
    )
    if cached.is_file():
        lm.model.load_state_dict(load_file(cached, device=str(runtime.device)), strict=False)
        return
    reporter.notify(
        f"'{lm.name}' has no LM head. A new one, tied to its embeddings, is warmed up on the corpus for "
        f"{config.model.head_warmup_steps} steps while the encoder stays as it is."
    )
    result = warm_up_head(
        lm, corpus, config.model, config.masking, config.adapt, runtime, randomness, reporter.steps("LM head warm-up")
    )
    reporter.notify(
        f"LM head ready: masked-LM loss {result.loss:.2f} after {result.steps} steps, {result.seconds:.0f} s."
    )
    save_tensors(cached, {name: p for name, p in lm.model.named_parameters() if name in lm.new_parameters})


def _head_digest(lm: PretrainedLM, corpus: Corpus, config: Config, runtime: Runtime) -> str:
    digest = hashlib.sha256()
    for part in (config.run, config.model, config.masking, config.adapt):
        digest.update(part.model_dump_json().encode())
    digest.update(f"{corpus.digest} {runtime.precision} {runtime.device.type}".encode())
    for name, tensor in lm.model.base_model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()[:20]


def check_output(out: Path, holds: str = "another run") -> None:
    """Raises UserError where the output folder is not empty or cannot be one."""
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: is a file, not a folder")
    if out.is_dir() and any(out.iterdir()):
        raise UserError(f"--out {out}: the folder already holds {holds}; choose another, or remove it first")
