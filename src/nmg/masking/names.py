"""Names of maskings that are not rules."""

LEARNED, PAPER_NAME = "learned", "neural"
"""Name of the masking of a trained policy, and the name that the paper gives it; both are accepted as input."""


def current_name(name: str) -> str:
    """Return the name of a masking, with the paper's name of a trained policy replaced by ours."""
    return LEARNED if name == PAPER_NAME else name
