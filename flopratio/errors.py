"""The errors that a user can cause: each is one sentence, and the command line exits with 2. And
what a user is warned of."""

from __future__ import annotations


class UsageError(ValueError):
    """Bad input: the message is one sentence that says what is wrong and what would be right.

    Attributes:
        key: a KEY that is like none that the model has; it may be meant for an option.
    """

    key: str | None = None


def message_of(error: BaseException) -> str:
    """The message of an error that others raised; empty if it can't even tell that."""
    try:
        return str(error)
    except Exception:
        return ""


class UntestedTorch(UserWarning):
    """The torch at hand is older or newer than those that flopratio is tested with."""


class FormulaError(UsageError):
    """A formula that does not fit its operator: it takes or names something that is not there."""
