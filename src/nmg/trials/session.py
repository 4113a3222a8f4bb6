"""Sessions: read and check the data, load the model, warm up a missing head and encode the text."""

from collections.abc import Collection, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Self

import numpy as np

from nmg.base.errors import UserError, bad_input, shown
from nmg.base.files import default_cache_dir, user_path
from nmg.base.progress import Reporter, Silent
from nmg.base.types import Example, IntArray
from nmg.config import Config
from nmg.data.corpus import Corpus
from nmg.data.episodes import MetaSplit, split_contexts
from nmg.data.notices import warn_once
from nmg.data.plausibility import unknown_doubts
from nmg.data.task_data import TaskData
from nmg.masking.corrupt import Vocabulary
from nmg.policies.base import PolicyContext
from nmg.tasks.base import Task
from nmg.tasks.loaded import LoadedData
from nmg.tasks.registry import task_kind
from nmg.training.attention import check_attention
from nmg.training.context import TrainingContext
from nmg.training.head import warm_up_missing_head
from nmg.training.lm import PretrainedLM
from nmg.training.lora import check_lora
from nmg.training.pooling import MEAN, Pooling, pooling_of
from nmg.training.runtime import Runtime
from nmg.trials.inputs import SharedInputs, load_model
from nmg.trials.preflight import TaskSample, preflight

TEXTS_WITHOUT_BAR = 20_000
"""Maximum number of texts that are tokenised without a progress bar."""


@dataclass(frozen=True)
class ModelSession:
    """A model and its runtime. `lm.model` holds the pre-trained weights until training starts."""

    config: Config
    lm: PretrainedLM
    runtime: Runtime
    reporter: Reporter
    _: KW_ONLY
    pooling: Pooling = MEAN
    """How texts are embedded; the model's own pooling if the task trains nothing."""

    @classmethod
    def open(
        cls, config: Config, reporter: Reporter | None = None, inputs: SharedInputs | None = None
    ) -> "ModelSession":
        """Load the model and move it to its device.

        Args:
            config: The settings of the run.
            reporter: Receives messages for the user; None for no messages.
            inputs: Data and models that the sessions of a command share; None if there is only one session.

        Returns:
            The session.

        Raises:
            UserError: The model cannot be loaded or has fewer positions than a block needs.
        """
        check_lora(config.adapt.lora)
        runtime = Runtime.start(config.runtime)
        check_attention(config.model, runtime)
        lm = inputs.model(config) if inputs else load_model(config)
        special = lm.tokenizer.num_special_tokens_to_add(pair=False)
        check_length(lm, "adapt.block_size", config.adapt.block_size + special)
        lm.model.to(runtime.device)
        return cls(config, lm, runtime, reporter or Silent())

    @property
    def context(self) -> TrainingContext:
        """The training context: model, vocabulary, settings and runtime of this session."""
        config, vocabulary = self.config, Vocabulary.from_tokenizer(self.lm.tokenizer)
        parts = (config.masking, config.adapt, config.finetune, self.runtime, self.reporter)
        return TrainingContext(
            self.lm.model,
            vocabulary,
            *parts,
            trained_fully=(*self.lm.new_parameters, *self.lm.extended),
            pooling=self.pooling,
        )

    def corpus(self, texts: Collection[str]) -> Corpus:
        """Return the texts as a corpus of blocks of `adapt.block_size` tokens, read from the cache if possible.

        Warns if a large part of the tokens is unknown to the tokenizer.
        """
        cache = default_cache_dir(self.config.runtime.cache_dir)
        progress = self.reporter.steps("tokenising") if len(texts) > TEXTS_WITHOUT_BAR else None
        tokenizer = self.lm.tokenizer
        corpus = Corpus.build(texts, tokenizer, self.config.adapt.block_size, cache, progress)
        if tokenizer.unk_token_id is not None:
            for doubt in unknown_doubts(corpus.share(tokenizer.unk_token_id), tokenizer.unk_token):
                warn_once(self.config.model.name, doubt, topic="unknown tokens")
        return corpus

    def preflight(self, texts: Collection[str]) -> Self:
        """Test the model on a few rows of the `texts` to adapt on (see `trials.preflight`), before any long work.

        Returns the session, in fp32 if the model does not train in the automatically chosen precision. Raises UserError
        if the model cannot be adapted.
        """
        return self._tried(texts)

    def _tried(self, texts: Collection[str], tasks: Sequence[TaskSample] = ()) -> Self:
        """Run the preflight and return the session with the precision that works."""
        asked = self.config.runtime.precision
        context = preflight(self.lm, self.context, texts, tasks, may_change_precision=asked == "auto")
        if context.runtime.precision == self.runtime.precision:
            return self
        runtime = self.config.runtime.model_copy(update={"precision": context.runtime.precision})
        config = self.config.model_copy(update={"runtime": runtime})  # worker processes start from this configuration
        return replace(self, config=config, runtime=context.runtime)

    def warm_up_head(self, corpus: Corpus) -> None:
        """Train the LM head on `corpus` if the checkpoint has none; otherwise do nothing."""
        cache = default_cache_dir(self.config.runtime.cache_dir)
        warm_up_missing_head(self.lm, self.context, self.config.model, corpus, self.config.run.seed, cache)


@dataclass(frozen=True)
class Session(ModelSession):
    """The model and the data of a run."""

    data: TaskData
    task: Task
    loaded: LoadedData
    """All data read from the files of `config.data`. `data` is the sample of them that the run's seed selects."""

    @classmethod
    def prepare(cls, config: Config, reporter: Reporter | None = None) -> Self:
        """Read and check all inputs, load and test the model, and warm up a missing LM head.

        The cheapest checks run first.

        Args:
            config: The settings of the run.
            reporter: Receives messages for the user; None for no messages.

        Returns:
            The session, which can be trained on.

        Raises:
            UserError: Settings or data are invalid, or the model is unsuitable.

        Example:
            ```python
            training = nmg.MetaTraining(nmg.Session.prepare(config))
            with training.engine:
                records = training.round()
            ```
        """
        return cls.open_all(config, reporter or Silent()).preflight().with_head()

    @classmethod
    def open_all(cls, config: Config, reporter: Reporter, inputs: SharedInputs | None = None) -> Self:
        """Open a session without testing the model or warming up a missing head.

        `prepare` does both as well.

        Args:
            config: The settings of the run.
            reporter: Receives messages for the user.
            inputs: Data and models that the sessions of a command share; None if there is only one session.

        Returns:
            The session.

        Raises:
            UserError: Settings or data are invalid, or the model cannot be loaded.
        """
        _check_adaptation(config)
        loaded = inputs.data(config.data) if inputs else LoadedData(config.data)
        data = loaded.sample(config.data, config.run.seed)
        model = ModelSession.open(config, reporter, inputs)
        check_length(model.lm, "finetune.max_length", config.finetune.max_length)
        kind = task_kind(config.data.task)
        task = kind.build(model.lm.tokenizer, data.train, config.finetune)
        check_metric(config, task)
        pooling = MEAN if kind.is_trained else pooling_of(model.lm.name)
        return cls(config, model.lm, model.runtime, reporter, data, task, loaded, pooling=pooling)

    def preflight(self, texts: Collection[str] | None = None) -> Self:
        """Test the model as in `ModelSession.preflight`, then the task's model on a few examples.

        `texts` are the texts to adapt on; None means the texts of the settings. Raises UserError for an unsuitable
        model, and for examples without any token, with the name of their file.
        """
        self._check_tokens()
        _say_remarks(self.task, self.data, self.reporter)
        data = self.data
        held_out = [*(data.validation or ()), *(data.test or ())]
        sample = TaskSample(self.config.data.task, self.task, data.train, held_out)
        return self._tried(self.loaded.corpus_texts if texts is None else texts, [sample])

    def _check_tokens(self) -> None:
        """Raise UserError if an example of a data file has no token, even if the seed does not select the example."""
        settings = self.config.data
        for field in ("train", "validation", "test"):
            file, examples = getattr(settings, field), getattr(self.loaded, field)
            if file is None:
                continue
            empty = self.task.without_tokens(examples)
            if empty:
                ids = ", ".join(f"'{example.id}'" for example in empty[:5])
                ids += ", …" if len(empty) > 5 else ""
                problem = (
                    f"the tokenizer of '{self.lm.name}' finds no token in {len(empty)} of {len(examples)} "
                    f"examples (line or id: {ids}), as in {shown(empty[0].passage)}; remove them, or "
                    "choose a model whose tokenizer knows these characters"
                )
                raise bad_input(user_path(file), problem)

    def with_head(self) -> Self:
        """Warm up a head that the checkpoint lacks on the text to adapt on, and return the session."""
        if self.lm.new_parameters:
            self.warm_up_head(self.corpus(self.loaded.corpus_texts))
        return self

    def split(self) -> MetaSplit:
        """Return the run's split into training contexts and validation examples."""
        config = self.config

        def row_counts(examples: Sequence[Example]) -> IntArray:
            return np.bincount(self.task.encode(examples).example_index, minlength=len(examples))

        return split_contexts(
            self.data,
            config.meta,
            config.run.seed,
            drop_duplicates=config.data.drop_duplicates,
            row_counts=row_counts,
        )

    def policy_ground(self, corpus: Corpus, labelled: Sequence[Example]) -> PolicyContext:
        """Return the context that policies for this model are built from.

        Args:
            corpus: The blocks that the policy masks.
            labelled: Training examples whose labels the policy may use.

        Returns:
            The context, with a copy of the model's input embeddings.
        """
        lm, kind = self.lm, task_kind(self.config.data.task)
        return PolicyContext(
            base_model=lm.name,
            hidden_size=lm.hidden_size,
            n_heads=lm.model.config.num_attention_heads,
            rate=self.config.masking.rate,
            tokenizer=lm.tokenizer,
            corpus=corpus,
            encode=self.context.reader,
            embeddings=lm.model.get_input_embeddings().weight.detach().clone(),
            relevance=lambda: kind.relevance(lm.tokenizer, labelled),
        )


def check_length(lm: PretrainedLM, name: str, length: int) -> None:
    """Check that a sequence length fits the model's position embeddings.

    Args:
        lm: The model and its tokenizer.
        name: The setting, for the message.
        length: Number of tokens, including special tokens.

    Raises:
        UserError: The model has fewer positions than `length`.
    """
    positions = getattr(lm.model.config, "max_position_embeddings", None)
    if positions is None:
        return
    if lm.model.config.model_type in _POSITIONS_AFTER_PADDING:
        positions -= lm.tokenizer.pad_token_id + 1
    if length > positions:
        raise UserError(f"{name}: {length} tokens with special tokens, but '{lm.name}' takes at most {positions}")


_POSITIONS_AFTER_PADDING = {
    *("roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod", "camembert", "mpnet"),
    *("longformer", "data2vec-text", "ibert"),
}
"""Model types whose position ids start at the id of the padding token + 1."""


def _check_adaptation(config: Config) -> None:
    """Raise UserError for settings of an adaptation that only `nmg adapt` accepts."""
    for name in ("steps", "minutes"):
        if getattr(config.adapt, name) is not None:
            raise UserError(f"adapt.{name}: only 'nmg adapt' accepts it. Use adapt.epochs here.")
    if config.adapt.general_corpus is not None:
        raise UserError("adapt.general_corpus: only 'nmg adapt' measures the loss on general text. Remove the setting.")
    if config.adapt.terms is not None:
        raise UserError("adapt.terms: only 'nmg adapt' measures terms. Remove the setting.")
    if config.adapt.add_words is not None:
        raise UserError(
            "adapt.add_words: only 'nmg adapt' adds words to a model. Save the model with its words (nmg adapt "
            f"--masking none --adapt.add_words {config.adapt.add_words} …), then name its folder in model.name."
        )


def check_metric(config: Config, task: Task) -> None:
    """Check that the task defines the metric `reward.metric`. Raises UserError if it does not."""
    known = sorted({*task.reward_metrics, *task.table_metrics})
    if config.reward.metric is not None and config.reward.metric not in known:
        raise UserError(
            f"reward.metric: the task '{config.data.task}' has no score '{config.reward.metric}' "
            f"(known: {', '.join(known)})"
        )


def _say_remarks(task: Task, data: TaskData, reporter: Reporter) -> None:
    """Show the task's remarks on each file, before any training."""
    files = {"data.train": data.train, "data.validation": data.validation, "data.test": data.test}
    for name, examples in files.items():
        for line in task.remarks(name, examples or ()):
            reporter.notify(line)
