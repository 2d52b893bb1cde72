"""The exception for requests that the scripts refuse."""


class Refusal(ValueError):
    """A refused request; the message is one line with the reason and what to do instead."""
