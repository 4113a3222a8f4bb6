"""Settings of the actor-critic of the paper; the defaults are the published ones of classification."""

from typing import ClassVar, Literal, Self

from pydantic import model_validator

from nmg.settings import Count, CountOrZero, NonNegative, Positive, Section


class ActorCriticSettings(Section):
    kind: Literal["actor-critic"] = "actor-critic"
    self_play: Literal["learning", "frozen", "random"] = "learning"
    """what the opponent is, once the replay has filled"""
    rival: Literal["random", "rule"] = "random"
    """what the player `random` masks by, in logs under that name either way: chance, or the rule idf by word pieces"""
    rival_sharpness: NonNegative = 5.0
    """of a rival `rule`: weights are idf ** sharpness; 0 is uniform"""
    exploration: Literal["token", "episode"] = "token"
    """what chance a learning player's masks have: that of its policy at each token alone, or also a lean to the same
    tokens throughout an episode (`exploration.lean`)"""
    exploration_spread: Positive = 2.0
    """standard deviation of the logits that an `episode` leans by"""
    reward: Literal["sign", "difference"] = "sign"
    """`difference`: the difference of the scores in units of its noise (`reward.ScoreNoise`), clipped"""
    reward_clip: Positive = 3.0
    """bound of a `difference` reward"""
    learning_rate: Positive = 1e-4
    weight_decay: NonNegative = 0.0
    max_grad_norm: Positive = 1.0
    updates: CountOrZero = 10
    """updates after an episode"""
    batch_size: Count = 64
    entropy_weight: NonNegative = 0.01
    value_weight: NonNegative = 0.25
    value_hidden: Count | None = None
    """units of the hidden layer of the value network; as many as the policy's head has where not given"""
    objective: Literal["actor-critic", "policy-gradient"] = "actor-critic"
    importance_ratio: bool = True
    ratio_clip: Positive | None = None
    """c of PPO: no gain from an importance ratio beyond 1 ± c; not clipped where not given"""
    replay_capacity: Count = 50_000
    """transitions"""
    replay_max_states: Count = 5_000
    """contexts whose hidden states are held"""
    replay_start: CountOrZero = 500
    """updates begin, and the opponent becomes a policy, once the replay holds more transitions than this"""
    replay_weighting: Literal["advantage", "reward", "value", "reward-advantage", "value-advantage", "uniform"] = (
        "advantage"
    )

    has_leader: ClassVar = True
    needs_linear: ClassVar = False
    learns_words: ClassVar = False

    @model_validator(mode="after")
    def _there_is_a_ratio_to_clip(self) -> Self:
        if self.ratio_clip is not None and not self.importance_ratio:
            raise ValueError("ratio_clip: there is no ratio to clip where importance_ratio is false")
        return self

    @model_validator(mode="after")
    def _the_replay_can_fill(self) -> Self:
        if self.replay_start >= self.replay_capacity:
            raise ValueError(
                f"replay_start: updates begin above {self.replay_start} transitions, but replay_capacity "
                f"{self.replay_capacity} holds no more than that: nothing would ever be learned"
            )
        return self
