"""Student's t: a likelihood of real data with outliers."""

import math

import pyro.distributions as dist
import torch
import torch.nn as nn
from torch import Tensor

from pyrovae.heads.precision import at_least_float32, log_prob_in_float64


class StudentTHead(nn.Module):
    r"""Independent Student's t with predicted loc and scale, loc + (min_scale + exp(s)) t(df),
    (loc, s) = net(parents).

    One df for all elements, learned as 2 + exp(.): the variance, scale^2 df / (df - 2), stays
    finite. Far from loc the density falls as a power, so that an outlier pulls less than it does
    on `NormalHead`; as df grows the two agree.

    Shapes: the net returns `(*batch, 2 * E1, *rest)`, split along the first event dim into loc and
    s; the distribution has event `(E1, *rest)` of `event_dim` dims. `min_scale` is in units of the
    data. Raises ValueError for `initial_df` not above 2.
    Source: Lange, Little & Taylor 1989, Robust statistical modeling using the t distribution, JASA
    84.

    Example:
        >>> from pyrovae.nets import MLP
        >>> StudentTHead(MLP(2, [8], 2 * 3))(torch.zeros(5, 2)).event_shape
        torch.Size([3])
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        event_dim: int = 1,
        initial_df: float = 10.0,
        min_scale: float = 0.0,
    ) -> None:
        super().__init__()
        if not initial_df > 2:
            raise ValueError(
                f"initial_df={initial_df}, but the degrees of freedom stay above 2, where the variance is "
                "finite."
            )
        self.net = net
        self.event_dim = event_dim
        self.min_scale = min_scale
        self.log_excess = nn.Parameter(
            torch.tensor(math.log(initial_df - 2), dtype=torch.get_default_dtype())
        )

    def forward(self, *parents: Tensor) -> dist.Independent:
        loc, log_scale = at_least_float32(self.net(*parents)).chunk(2, dim=-self.event_dim)
        df, scale = 2 + self.log_excess.exp(), self.min_scale + log_scale.exp()
        return PreciseStudentT(df, loc, scale).to_event(self.event_dim)


class PreciseStudentT(dist.StudentT):
    """Student's t scored in float64: at df = 10^4 float32 gives each element 0.005 nats, which
    learning df finds."""

    def log_prob(self, value: Tensor) -> Tensor:
        return log_prob_in_float64(
            dist.StudentT,
            value,
            df=self.df,
            loc=self.loc,
            scale=self.scale,
            validate_args=self._validate_args,
        )
