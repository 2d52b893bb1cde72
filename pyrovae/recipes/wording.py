"""Numbers in words, for the terminal."""

import math


def counted(count: int, noun: str) -> str:
    """
    Example:
        >>> counted(1, "network"), counted(3, "network")
        ('1 network', '3 networks')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"


def share(value: float, se: float, *, of: str, spec: str = ".3f", sign: str = "±") -> str:
    """A share, or an area under a curve, with its standard error; at 0 and at 1, where the error
    is unknown (its estimate is 0), what it is a share of.

    Example:
        >>> share(0.5, 0.1, of="60"), share(1.0, 0.0, of="60"), share(0.0, 0.0, of="60")
        ('0.500 ± 0.100', '1.000 (all 60)', '0.000 (none of 60)')
    """
    if se == 0 and value in (0.0, 1.0):
        return f"{value:{spec}} ({'all' if value else 'none of'} {of})"
    return f"{value:{spec}}" + ("" if math.isnan(se) else f" {sign} {se:{spec}}")
