"""Standard errors of scores that are no mean over data."""

from collections.abc import Callable

import torch
from torch import Tensor

from pyrovae.metrics.summary import MeanError


def block_error(
    score: Callable[[Tensor, Tensor], Tensor], real: Tensor, fake: Tensor, *, blocks: int = 20
) -> MeanError:
    r"""A score of two sets of rows and its standard error by leaving out a block at a time of both
    (the delete-a-group jackknife): se^2 = (g - 1)/g sum_j (s_(j) - mean s_(.))^2.

    Valid for scores that are smooth in the two distributions. Where both distributions are equal,
    `kernel_distance` is degenerate and its error comes out too large, on the safe side. What
    trained the model or the features is not in it.

    Shapes: real (N, ...), fake (M, ...), rows in random order. n of the result is the number of
    blocks. Errors: ValueError for fewer than two blocks, or than two rows in a block.

    Source: Kott 2001, Journal of Official Statistics 17(4); Efron & Stein 1981, Annals of
    Statistics 9(3).

    Example:
        >>> real, fake = torch.arange(8.0), torch.arange(8.0) + 3
        >>> found = block_error(lambda a, b: b.mean() - a.mean(), real, fake, blocks=4)
        >>> found.mean, round(found.se, 3)
        (3.0, 0.0)
    """
    fewest = min(len(real), len(fake))
    if not 2 <= blocks <= fewest // 2:
        raise ValueError(
            f"blocks={blocks}, expected at least 2 and at most {fewest // 2}, so that each has two rows of either set."
        )
    parts = [
        score(_without(real, block, blocks), _without(fake, block, blocks))
        for block in range(blocks)
    ]
    left_out = torch.stack([part.double() for part in parts])
    spread = (left_out - left_out.mean()).square().sum() * (blocks - 1) / blocks
    return MeanError(score(real, fake).item(), spread.sqrt().item(), blocks)


def _without(rows: Tensor, block: int, blocks: int) -> Tensor:
    kept = torch.arange(len(rows), device=rows.device) % blocks != block
    return rows[kept]
