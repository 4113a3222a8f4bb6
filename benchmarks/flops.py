"""Floating-point operations of an encoder, counted from its sizes: matrix products alone, two operations a term."""

from dataclasses import dataclass

from transformers import PreTrainedConfig

BACKWARD = 2
"""A backward pass multiplies twice for each product of the forward pass: by the weights, and by the inputs."""


@dataclass(frozen=True)
class EncoderSize:
    layers: int
    hidden: int
    intermediate: int
    vocabulary: int

    @classmethod
    def of(cls, config: PreTrainedConfig) -> "EncoderSize":
        return cls(config.num_hidden_layers, config.hidden_size, config.intermediate_size, config.vocab_size)

    def encode(self, length: float) -> float:
        """A token's way through all layers, in a block of `length` tokens: projections, attention, feed-forward."""
        return self.layers * (self._attention(length) + self._feed_forward())

    def _attention(self, length: float) -> float:
        return 2 * (4 * self.hidden**2 + 2 * length * self.hidden)

    def _left_out(self, length: float) -> float:
        """In the last layer, of a token that no loss reads: all but its key and value."""
        return self._attention(length) - 2 * 2 * self.hidden**2 + self._feed_forward()

    def _feed_forward(self) -> float:
        return 2 * (2 * self.hidden * self.intermediate)

    def _head(self) -> float:
        return 2 * (self.hidden**2 + self.hidden * self.vocabulary)

    def train_lm_full(self, length: float) -> float:
        """A token of a training step whose head runs on all positions."""
        return (1 + BACKWARD) * (self.encode(length) + self._head())

    def train_lm(self, length: float, rate: float) -> float:
        """A token of a training step whose last layer and head ask for masked positions alone, `rate` of all."""
        return (1 + BACKWARD) * (self.encode(length) - (1 - rate) * self._left_out(length) + rate * self._head())

    def train_classifier(self, length: float) -> float:
        """A token of a fine-tuning step of which the last layer asks for one position of `length`."""
        return (1 + BACKWARD) * self.classify(length)

    def classify(self, length: float) -> float:
        return self.encode(length) - (1 - 1 / length) * self._left_out(length)
