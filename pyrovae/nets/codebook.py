"""The codebook of a vector-quantised VAE."""

import torch
from torch import Tensor, nn


class Codebook(nn.Module):
    r"""C vectors of `features` numbers: `forward` looks codes up, `nearest` finds the code of a
    vector.

    Shapes: codes `(*batch, M)` in 0..C-1 -> vectors `(*batch, M, features)`, and back by `nearest`.
    Source: van den Oord, Vinyals & Kavukcuoglu 2017, arXiv:1711.00937, eq. 1 and 2.

    Example:
        >>> book = Codebook(num_codes=8, features=3)
        >>> codes = torch.tensor([[1, 7]])
        >>> torch.equal(book.nearest(book(codes)), codes)
        True
    """

    def __init__(self, num_codes: int, features: int) -> None:
        super().__init__()
        if num_codes < 1 or features < 1:
            raise ValueError(
                f"num_codes={num_codes} and features={features}, expected at least 1 of each."
            )
        self.vectors = nn.Parameter(torch.randn(num_codes, features))

    def forward(self, codes: Tensor) -> Tensor:
        return self.vectors[codes.long()]

    def nearest(self, vectors: Tensor) -> Tensor:
        """The code of the nearest vector of the book, by Euclidean distance."""
        squares = self.vectors.square().sum(-1)
        return (squares - 2 * vectors @ self.vectors.T).argmin(-1)
