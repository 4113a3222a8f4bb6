"""Settings of the paper's actor-critic. The defaults are the published values for classification."""

from typing import ClassVar, Literal, Self

from pydantic import model_validator

from nmg.base.section import Count, CountOrZero, NonNegative, Positive, Section


class ActorCriticSettings(Section):
    """Settings of the actor-critic learner."""

    kind: Literal["actor-critic"] = "actor-critic"
    self_play: Literal["learning", "frozen", "random"] = "learning"
    """Type of opponent after the replay has filled: a learning policy, a frozen copy, or the random player."""
    baseline: Literal["random", "rule"] = "random"
    """How the player named `random` masks: at random, or by the idf rule over word pieces."""
    baseline_idf_exponent: NonNegative = 5.0
    """Exponent of the rule if `baseline` is `rule`: weights are idf ** exponent; 0 is uniform."""
    exploration: Literal["token", "parameter-noise"] = "token"
    """`token`: sample each token from the policy. `parameter-noise`: also add one random direction of feature weights
    per episode (see `exploration.parameter_noise`)."""
    exploration_std: Positive = 2.0
    """Standard deviation of the noise that `exploration: parameter-noise` adds to the logits."""
    reward: Literal["sign", "difference"] = "sign"
    """`sign`: sign of the score difference. `difference`: score difference in units of its noise, clipped."""
    reward_clip: Positive = 3.0
    """Maximum absolute value of a `difference` reward."""
    learning_rate: Positive = 1e-4
    """Learning rate of AdamW."""
    weight_decay: NonNegative = 0.0
    """Weight decay of AdamW."""
    max_grad_norm: Positive = 1.0
    """Maximum norm of the gradient; larger gradients are scaled down."""
    updates_per_episode: CountOrZero = 10
    """Number of updates after each episode."""
    batch_size: Count = 64
    """Number of transitions per update."""
    entropy_coef: NonNegative = 0.01
    """Coefficient of the entropy in the loss."""
    value_coef: NonNegative = 0.25
    """Coefficient of the value loss."""
    value_hidden: Count | None = None
    """Number of hidden units of the value network. If not given, it is that of the policy's head."""
    objective: Literal["actor-critic", "policy-gradient"] = "actor-critic"
    """`actor-critic`: the advantage is reward minus value. `policy-gradient`: it is the reward, and there is no value
    loss."""
    importance_ratio: bool = True
    """Whether the policy loss differentiates the importance ratio instead of the log-probability."""
    clip_range: Positive | None = None
    """Clipping range c of PPO: importance ratios are clipped to 1 ± c. The default is no clipping."""
    replay_capacity: Count = 50_000
    """Maximum number of transitions in the replay."""
    replay_max_states: Count = 5_000
    """Maximum number of contexts whose hidden states are stored."""
    learning_starts: CountOrZero = 500
    """Number of transitions at which updates start. Above this number, the opponent becomes a policy."""
    replay_weighting: Literal["advantage", "reward", "value", "reward-advantage", "value-advantage", "uniform"] = (
        "advantage"
    )
    """Priority by which transitions are sampled (see `replay.Replay.log_weights`)."""

    has_leader: ClassVar = True
    needs_linear: ClassVar = False
    learns_words: ClassVar = False

    @model_validator(mode="after")
    def _there_is_a_ratio_to_clip(self) -> Self:
        if self.clip_range is not None and not self.importance_ratio:
            raise ValueError("clip_range: there is no ratio to clip if importance_ratio is false: leave clip_range out")
        return self

    @model_validator(mode="after")
    def _the_replay_can_fill(self) -> Self:
        if self.learning_starts >= self.replay_capacity:
            raise ValueError(
                f"learning_starts: updates start above {self.learning_starts} transitions, but the replay never holds "
                f"more than replay_capacity {self.replay_capacity}: lower learning_starts or raise replay_capacity"
            )
        return self
