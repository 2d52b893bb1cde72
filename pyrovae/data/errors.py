"""The one exception of the data package, and the refusal that several of its files need."""

from typing import SupportsIndex


class DataError(ValueError):
    """Data were refused; the message says what was seen, what was expected and what to do.

    Example:
        >>> from pyrovae.data import DataError, DictDataset
        >>> try:
        ...     DictDataset()
        ... except DataError as error:
        ...     print(error)
        a DictDataset needs at least one named tensor and got none. Write DictDataset(x=...).
    """


def whole_number(value: int, name: str, *, at_least: int) -> int:
    """``value`` as an int, refused when it is not a whole number or is below ``at_least``.

    Raises:
        DataError: as above.

    Example:
        >>> whole_number(3, "n", at_least=1)
        3
    """
    if (
        isinstance(value, bool)
        or not isinstance(value, SupportsIndex)
        or value.__index__() < at_least
    ):
        raise DataError(
            f"{name} is {value!r}, expected a whole number of rows, at least {at_least}."
        )
    return value.__index__()
