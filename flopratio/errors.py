"""The errors that a user can cause: each is one sentence, and the command line exits with 2."""


class UsageError(ValueError):
    """Bad input: the message is one sentence that says what is wrong and what would be right."""
