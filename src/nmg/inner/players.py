"""The inner loops of an episode's players: one after another in this process, or at once in processes of their own."""

import pickle
import signal
from collections.abc import Mapping
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import torch
from loky import ProcessPoolExecutor
from transformers import PreTrainedConfig, PreTrainedModel

from nmg.config import Config
from nmg.errors import UserError
from nmg.inner.lm import ModelState
from nmg.inner.rollout import Arena, Encoded, rollout
from nmg.inner.runtime import Runtime
from nmg.masking.corrupt import Vocabulary
from nmg.tasks.base import Task
from nmg.types import Episode, MaskPlan, Outcome, TokenBlocks

PLAYERS = 3
"""learner, opponent, random"""
IDLE_SECONDS = 300
"""until a process without work ends (a new one starts when there is), so that none outlives a run that was killed"""
KEEPS_MEMORY = {"LOKY_MAX_MEMORY_LEAK_SIZE": "1e15"}
"""bytes; loky takes memory that a process keeps for a leak, and starts another in its place, in the midst of a run"""
SMALL_MODEL = 50_000_000
"""parameters; a larger model keeps all cores busy by itself, and three copies of it in training may not fit"""


class InnerLoops:
    """Plays the inner loops of an episode. A context: processes that it started end with it.

    A training step of a small model is too short to share among cores, while the players of an episode do not touch
    each other before their scores are compared. The outcome is the same to the bit as that of a single process with as
    many threads as each of these has.
    """

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self.processes = process_count(arena)
        self._executor: ProcessPoolExecutor | None = None

    def play(
        self, start: ModelState, episode: Episode, blocks: TokenBlocks, plans: Mapping[str, MaskPlan], keep: str
    ) -> tuple[dict[str, Outcome], ModelState]:
        """The outcome of each plan (player → plan), and the LM that the player `keep` adapted.

        Raises UserError when a process is killed (by the system, for memory).
        """
        if self.processes > 1:
            return self._play_at_once(start, episode, blocks, plans, keep)
        outcomes, kept = {}, start
        for name, plan in plans.items():
            outcomes[name], adapted = rollout(self._arena, start, episode, blocks, plan)
            if name == keep:
                kept = adapted
        return outcomes, kept

    def _play_at_once(
        self, start: ModelState, episode: Episode, blocks: TokenBlocks, plans: Mapping[str, MaskPlan], keep: str
    ) -> tuple[dict[str, Outcome], ModelState]:
        shared = _pack((start, episode, blocks))
        try:
            futures = {
                name: self._processes().submit(_play, shared, _pack(plan), name == keep) for name, plan in plans.items()
            }
            answers = {name: pickle.loads(future.result()) for name, future in futures.items()}
        except BrokenProcessPool as error:
            self.close()
            raise UserError(
                "a process that plays one of an episode's players ended before its work was done. Short of memory? "
                "'--runtime.player_processes 1' plays them one after another."
            ) from error
        device = self._arena.runtime.device
        adapted = {name: tensor.to(device) for name, tensor in answers[keep][1].items()}
        return {name: outcome for name, (outcome, _) in answers.items()}, adapted

    def close(self) -> None:
        """End the processes; the next `play` starts new ones."""
        if self._executor is not None:
            self._executor.shutdown(kill_workers=True)
            self._executor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _processes(self) -> ProcessPoolExecutor:
        if self._executor is None:
            self._executor = ProcessPoolExecutor(
                max_workers=self.processes,
                timeout=IDLE_SECONDS,
                initializer=_open_arena,
                initargs=(_pack(_Recipe.of(self._arena, self.processes)),),
                env=KEEPS_MEMORY,
            )
        return self._executor


def process_count(arena: Arena) -> int:
    """`runtime.player_processes`; for `auto` one a player where a small model has several cores, else one."""
    setting = arena.config.runtime.player_processes
    if setting != "auto":
        return min(setting, PLAYERS)
    is_small = arena.model.num_parameters() <= SMALL_MODEL
    return PLAYERS if is_small and arena.runtime.device.type == "cpu" and torch.get_num_threads() > 1 else 1


@dataclass(frozen=True)
class _Recipe:
    """What makes an arena in another process: all but the weights, which come with every episode, and the runtime."""

    model_class: type[PreTrainedModel]
    model_config: PreTrainedConfig
    task: Task
    train: Encoded
    validation: Encoded
    vocabulary: Vocabulary
    config: Config

    @classmethod
    def of(cls, arena: Arena, processes: int) -> "_Recipe":
        """The processes share this one's threads."""
        threads = max(torch.get_num_threads() // processes, 1)
        runtime = arena.config.runtime.model_copy(update={"threads": threads})
        return cls(
            model_class=type(arena.model),
            model_config=arena.model.config,
            task=arena.task,
            train=arena.train,
            validation=arena.validation,
            vocabulary=arena.vocabulary,
            config=arena.config.model_copy(update={"runtime": runtime}),
        )

    def arena(self) -> Arena:
        runtime = Runtime.start(self.config.runtime)
        model = self.model_class(self.model_config).to(runtime.device)
        return Arena(model, self.task, self.train, self.validation, self.vocabulary, self.config, runtime)


_arena: Arena
"""of a process that plays a player"""


def _open_arena(recipe: bytes) -> None:
    global _arena  # noqa: PLW0603 the process has this one purpose
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the first one ends the others
    _arena = pickle.loads(recipe).arena()


def _play(shared: bytes, plan: bytes, keep: bool) -> bytes:
    start, episode, blocks = pickle.loads(shared)
    outcome, adapted = rollout(_arena, start, episode, blocks, pickle.loads(plan))
    return _pack((outcome, adapted if keep else None))


def _pack(value: Any) -> bytes:
    """Bytes for another of our own processes.

    Left to itself, multiprocessing would hand tensors over in shared memory, of which containers have little.
    """
    return pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
