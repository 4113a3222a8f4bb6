"""Fixtures of the masking tests."""

from support.files import shared

__all__ = ["shared"]
