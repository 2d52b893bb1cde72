"""Tensors as text: float32, or whole numbers of fewer bits with a scale for each row."""

import base64
import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Numbers:
    """How tensors are written. bits: 32 for float32; with 24, 20 or 16, matrices and kernels are
    rounded to whole multiples of a scale of their row, max |w| / (2^(bits - 1) - 1).

    The error is then the same for all weights of a row, which suits sums: with 16 bits it is far
    below that of float16, whose steps are relative, 2^-11.

    Example:
        >>> x = torch.tensor([[0.1, -0.25], [3.0, 1.0]])
        >>> (Numbers(16).rounded(x) - x).abs().max() < 3.0 / 2**16
        tensor(True)
    """

    bits: int = 32

    @property
    def name(self) -> str:
        if self.bits == 32:
            return "float32"
        return f"whole numbers of {self.bits} bits with a scale for each row"

    def text(self, x: Tensor) -> dict[str, object]:
        """A JSON object that `net.js` reads: little-endian; the 16 high bits of all numbers, then
        the low ones, 4 or 8 a number."""
        x = x.detach().cpu().float()
        found: dict[str, object] = {"shape": list(x.shape)}
        if self.bits == 32 or x.dim() < 2:
            return found | {"f32": _base64(x)}
        whole, scale = self._whole(x)
        flat, more = whole.flatten(), self.bits - 16
        found |= {"high": _base64((flat >> more).to(torch.int16)), "scale": _base64(scale)}
        if more:
            found |= {"more": more, "low": _base64(_joined((flat & (2**more - 1)), more))}
        return found

    def rounded(self, x: Tensor) -> Tensor:
        """What is read back."""
        if self.bits == 32 or x.dim() < 2:
            return x
        whole, scale = self._whole(x.detach().float())
        return (whole.float() * scale[:, None]).reshape(x.shape).to(x)

    def written(self, content: object) -> object:
        """JSON content whose tensors are text."""
        if isinstance(content, Tensor):
            return self.text(content)
        if isinstance(content, Mapping):
            return {name: self.written(value) for name, value in content.items()}
        return [self.written(one) for one in content] if isinstance(content, list) else content

    def _whole(self, x: Tensor) -> tuple[Tensor, Tensor]:
        rows = x.reshape(len(x), -1)
        scale = rows.abs().amax(1).clamp(min=1e-30) / (2 ** (self.bits - 1) - 1)
        return (rows.double() / scale[:, None]).round().to(torch.int32), scale


def _joined(low: Tensor, bits: int) -> Tensor:
    """One number of 8 bits a byte; of 4 bits two, the first in the lower half."""
    if bits == 8:
        return low.to(torch.uint8)
    pairs = torch.nn.functional.pad(low, (0, len(low) % 2)).reshape(-1, 2)
    return (pairs[:, 0] + 16 * pairs[:, 1]).to(torch.uint8)


def _base64(x: Tensor) -> str:
    array = x.contiguous().numpy()
    return base64.b64encode(array.astype(array.dtype.newbyteorder("<")).tobytes()).decode()
