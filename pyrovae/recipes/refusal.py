"""What the scripts turn down."""


class Refusal(ValueError):
    """A request the scripts turn down, in one line that says why and what to do instead."""
