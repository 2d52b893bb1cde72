"""What pyrovae raises. Each message says what was seen, what was expected and what to do."""


class PairError(ValueError):
    """A (model, guide, batch) that would run, but compute something else than intended."""


class CheckpointError(ValueError):
    """A file that is not a checkpoint, is damaged, or belongs to another model."""


class NonFiniteLossError(FloatingPointError):
    """Training met NaN or infinity, in the loss or a gradient; names the epoch, the batch, the
    site and the parameters."""


class CaptureError(RuntimeError):
    """A program that cannot be recorded and replayed, because its operations depend on more than
    the shapes of tensors."""


def first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


class CollapseWarning(UserWarning):
    """Training ended with latent variables that carry no information about the data."""
