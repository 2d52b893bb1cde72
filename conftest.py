"""What the examples of the docstrings begin with: a small VAE, as `model` and `guide`."""

from typing import Any

import pytest


@pytest.fixture(autouse=True)
def small_vae(request: pytest.FixtureRequest, doctest_namespace: dict[str, Any]) -> None:
    """Four binary pixels, two latent dims."""
    if not isinstance(request.node, pytest.DoctestItem):
        return
    import pyrovae as pv
    from pyrovae.heads import BernoulliHead, NormalHead
    from pyrovae.nets import MLP
    from pyrovae.priors import StandardNormal

    model = pv.Model(z=StandardNormal(2), x=pv.Node(BernoulliHead(MLP(2, [8], 4)), "z"))
    guide = pv.Guide(z=pv.Node(NormalHead(MLP(4, [8], 2 * 2)), "x"))
    doctest_namespace.update(model=model, guide=guide)
