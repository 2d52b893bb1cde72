"""Semi-amortised inference: guides that are refined by gradient steps for each batch."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn as nn
from pyro import poutine
from torch import Tensor

from pyrovae.core.batching import size_of
from pyrovae.core.errors import CaptureError, PairError
from pyrovae.core.log_weights import log_weights
from pyrovae.core.modules import find_modules
from pyrovae.core.recording import is_recording
from pyrovae.core.shapes import DATA
from pyrovae.core.support_checks import refuse_score_functions
from pyrovae.core.traces import Batch, run_guide


class SemiAmortized(nn.Module):
    r"""A guide refined by a few gradient steps on the ELBO of each datum, starting from the
    amortised posterior.

    The steps optimise biases: each linear layer that the guide runs gets an additional one for
    each datum, zero at first. The bias of the last layer reaches every parameter of a normal (or
    mixture) encoder, so that many steps find the best member of its family for each datum; biases
    in a flow's layers reach its conditioner too. Adam treats each datum separately. A datum whose
    ELBO (on common draws) the steps did not raise keeps the amortised posterior.

    `SemiAmortized(...)` is a guide: it refines itself for every batch it is called with, in
    training too (the amortised parameters get their gradient through the refined draws, not
    through the steps). `for_batch` returns the guide refined for one batch, which the engine calls
    once a batch, however many particles it draws.

    steps, lr: of Adam; the learning rate falls linearly to zero. It is that of the narrowest
        layer; a layer n times as wide takes 1 / sqrt(n) of it, since the next layer sums over its
        units.
    num_particles: draws in each step's estimate of the ELBO.

    Raises: PairError for a guide that runs no linear layer, and inside a vectorised Pyro ELBO other
    than that of an `ElboLoss`; TypeError for draws that are not reparameterised.
    Source: Kim et al. 2018, arXiv:1802.02550, algorithm 1 (without the gradient through the
    steps); Cremer, Li & Duvenaud 2018, arXiv:1801.03558, section 3.

    Example:
        >>> log_weights(model, SemiAmortized(guide, model, steps=5), {"x": torch.ones(3, 4)}, 10).shape
        torch.Size([10, 3])
    """

    def __init__(
        self,
        guide: Callable,
        model: Callable,
        *,
        steps: int = 20,
        lr: float = 0.05,
        num_particles: int = 5,
        plate: str = DATA,
    ) -> None:
        super().__init__()
        if steps < 0 or num_particles < 1:
            raise ValueError(
                f"steps={steps} and num_particles={num_particles}, expected at least 0 and 1."
            )
        self.guide = guide
        self.pair = (model,)  # in a tuple, so that the model is no submodule of its own guide
        self.steps, self.lr, self.num_particles, self.plate = steps, lr, num_particles, plate

    def forward(self, **batch: Tensor) -> object:
        try:
            with poutine.block():
                refined = self.for_batch(batch)
        except ValueError as error:
            if "collide" not in str(error):
                raise
            raise PairError(
                "SemiAmortized needs the particle plate for its own draws, but was called inside that of an "
                "estimator with vectorize_particles=True. Use pyrovae.ElboLoss(model, guide, elbo=...), which "
                "refines before the plate opens, or vectorize_particles=False."
            ) from error
        return refined(**batch)

    def for_batch(self, batch: Batch) -> "Refined":
        """The guide refined for these data."""
        if is_recording():
            raise CaptureError("a semi-amortised guide runs an optimiser for each batch.")
        refined = Refined(self.guide, batch)
        with torch.enable_grad():
            biases = refined.biases
            optimizer = torch.optim.Adam([{"params": bias} for bias in biases])
            least = min(bias.shape[-1] for bias in biases)
            for step in range(self.steps):
                for group in optimizer.param_groups:
                    group["lr"] = (
                        self.lr
                        * (1 - step / self.steps)
                        * (least / group["params"][0].shape[-1]) ** 0.5
                    )
                for bias, gradient in zip(
                    biases, torch.autograd.grad(-self._elbo(refined, batch).sum(), biases)
                ):
                    bias.grad = gradient
                optimizer.step()
        for bias in biases:
            bias.requires_grad_(False)
        with torch.no_grad():  # the more steps, the more draws decide whether to keep them
            gain = sum(
                (self._gain(refined, batch) for _ in range(0, self.steps, 10)), torch.zeros(())
            )
            for bias in biases:
                bias.mul_((gain > 0).unsqueeze(-1))
        return refined

    def _elbo(self, guide: Callable, batch: Batch) -> Tensor:
        return log_weights(self.pair[0], guide, batch, self.num_particles, plate=self.plate).mean(
            0
        )

    def _gain(self, refined: "Refined", batch: Batch) -> Tensor:
        with torch.random.fork_rng(
            devices={bias.device for bias in refined.biases if bias.is_cuda}
        ):
            before = self._elbo(self.guide, batch)
        return self._elbo(refined, batch) - before

    def extra_repr(self) -> str:
        return f"steps={self.steps}, lr={self.lr:g}, num_particles={self.num_particles}"


class Refined(nn.Module):
    """A guide whose linear layers have one more bias for each datum of one batch."""

    def __init__(self, guide: Callable, batch: Batch) -> None:
        super().__init__()
        self.guide = guide
        self.size = size_of(batch)
        self.added: dict[nn.Linear, Tensor] = {}
        with torch.no_grad():
            refuse_score_functions(run_guide(self, batch), "SemiAmortized")
        if not self.added:
            raise PairError(
                "the guide runs no linear layer (nn.Linear) on these data, so there is nothing to refine for "
                "each datum; guides without a net have parameters of their own for each datum already."
            )

    @property
    def biases(self) -> list[Tensor]:
        return list(self.added.values())

    def forward(self, **batch: Tensor) -> object:
        if size_of(batch) != self.size:
            raise PairError(
                f"this guide was refined for a batch of {self.size} data, but got {size_of(batch)}; call "
                "SemiAmortized.for_batch on these."
            )
        with self._hooked():
            return self.guide(**batch)

    @contextmanager
    def _hooked(self) -> Iterator[None]:
        handles = [
            part.register_forward_hook(self._add)
            for module in find_modules(self.guide).values()
            for part in module.modules()
            if isinstance(part, nn.Linear)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _add(self, layer: nn.Linear, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """`output` is `(..., B, F)`, or `(K * B, F)` from nets that fold their leading dims.

        Only layers whose output without particles is `(B, F)` get a bias: rows of other outputs
        need not be data.
        """
        if layer not in self.added and output.shape[:-1] == (self.size,):
            self.added[layer] = output.new_zeros(self.size, output.shape[-1], requires_grad=True)
        if layer not in self.added or output.dim() < 2 or output.shape[-2] % self.size:
            return output
        return (output.unflatten(-2, (-1, self.size)) + self.added[layer]).flatten(-3, -2)
