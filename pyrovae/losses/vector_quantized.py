"""Training of encoders whose codes are the nearest vectors of a codebook."""

from typing import Protocol

from torch import Tensor, nn


class Book(Protocol):
    """A codebook, such as `nets.Codebook`."""

    def __call__(self, codes: Tensor) -> Tensor:
        """The vectors of codes."""

    def nearest(self, vectors: Tensor) -> Tensor:
        """The codes of the nearest vectors."""


class Quantizes(Protocol):
    """A guide with a net and a codebook, such as `posteriors.VectorQuantized`."""

    net: nn.Module
    codebook: Book


class VectorQuantizedLoss(nn.Module):
    r"""-log p(x | e_c) + |sg(z) - e_c|^2 + beta |z - sg(e_c)|^2 in nats per datum, c = argmin_c |z -
    e_c|, z = net(x).

    The first term reaches the encoder as if z were e_c (straight through), the second moves the
    codebook to the encoder's outputs, the third commits the encoder to its codes; sg has no
    gradient. No prior of the codes is trained: fit one to the codes afterwards. The value is no
    bound; `log_weights` of the programs is.

    likelihood: a module from vectors `(B, M, features)` to p(x | .), such as `BernoulliHead(net)`.
    guide: `posteriors.VectorQuantized`. commitment: beta.

    Source: van den Oord, Vinyals & Kavukcuoglu 2017, arXiv:1711.00937, eq. 3.

    Example:
        >>> import torch
        >>> from pyrovae.heads import BernoulliHead
        >>> from pyrovae.nets import MLP, Codebook
        >>> from pyrovae.posteriors import VectorQuantized
        >>> guide = VectorQuantized(MLP(4, [8], (2, 3)), Codebook(8, 3))
        >>> loss = VectorQuantizedLoss(BernoulliHead(MLP((2, 3), [8], 4)), guide)
        >>> loss(x=torch.ones(5, 4)).shape
        torch.Size([])
    """

    def __init__(
        self, likelihood: nn.Module, guide: nn.Module, *, commitment: float = 0.25
    ) -> None:
        super().__init__()
        if not commitment >= 0:
            raise ValueError(f"commitment={commitment}, expected a number of at least 0.")
        self.likelihood, self.commitment = likelihood, commitment
        self.guide: Quantizes = guide  # type: ignore[assignment]

    def forward(self, *, x: Tensor, **others: Tensor) -> Tensor:
        z, book = self.guide.net(x), self.guide.codebook
        vectors = book(book.nearest(z.detach()))
        straight = z + (vectors - z).detach()
        reconstruction = self.likelihood(straight).log_prob(x).mean()
        apart = (vectors - z.detach()).square() + self.commitment * (vectors.detach() - z).square()
        return apart.flatten(1).sum(-1).mean() - reconstruction
