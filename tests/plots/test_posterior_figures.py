"""Posteriors against the prior: what is drawn is where the numbers are."""

import math

import numpy as np
import pytest
import torch

from pyrovae import plots


def normal(reach: float, points: int = 201) -> torch.Tensor:
    line = torch.linspace(-reach, reach, points)
    return torch.exp(-0.5 * (line[:, None] ** 2 + line**2))


def test_ellipses_have_the_axes_of_the_covariance() -> None:
    turn = math.radians(30)
    axis = torch.tensor([math.cos(turn), math.sin(turn)])
    covariance = 4 * torch.outer(axis, axis) + 0.25 * (torch.eye(2) - torch.outer(axis, axis))
    figure = plots.posterior_ellipses(
        torch.tensor([[1.0, -0.5]]), covariance[None], torch.tensor([7]), prior=normal(3), reach=3
    )
    one, two = figure.axes[0].patches
    assert np.allclose(one.center, (1, -0.5)) and np.allclose(one.angle % 180, 120)
    assert np.allclose((one.width, one.height), (2 * 0.5, 2 * 2.0))  # its axes: 1 sd on each side
    assert np.allclose((two.width, two.height), (4 * 0.5, 4 * 2.0))
    assert [text.get_text() for text in figure.legends[1].get_texts()] == ["7"]


def test_contours_of_a_normal_are_its_circles() -> None:
    figure = plots.posterior_ellipses(
        torch.zeros(1, 2), torch.eye(2)[None], prior=normal(4, 401), reach=4
    )
    (contours,) = [part for part in figure.axes[0].collections]
    radii = sorted(
        float(np.linalg.norm(path.vertices, axis=1).mean()) for path in contours.get_paths()
    )
    np.testing.assert_allclose(radii, [1, 2], atol=0.02)  # the step of the grid


def test_densities_are_those_of_normals_and_the_prior() -> None:
    grid = torch.linspace(-4, 4, 81)
    prior = torch.stack([torch.exp(-0.5 * grid**2), torch.exp(-grid.abs())])
    figure = plots.posterior_densities(
        torch.tensor([[1.0, 0.0], [0.0, -1.0]]),
        torch.tensor([[0.5, 1.0], [1.0, 0.2]]),
        prior=prior,
        grid=grid,
        dims=(4, 0),
    )
    first, second = figure.axes
    assert [axes.get_title() for axes in (first, second)] == ["latent 4", "latent 0"]
    curves = [line.get_ydata() for line in first.lines]
    exact = torch.distributions.Normal(1.0, 0.5).log_prob(grid).exp()
    np.testing.assert_allclose(curves[0], exact, rtol=1e-5)
    np.testing.assert_allclose(second.lines[2].get_ydata(), prior[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": torch.zeros(3, 3)}, "expected .N, 2."),
        ({"prior": torch.zeros(3)}, "finite densities"),
        ({"y": torch.zeros(2)}, "one label a datum"),
    ],
)
def test_what_cannot_be_drawn(change: dict, message: str) -> None:
    given = {"mean": torch.zeros(3, 2), "covariance": torch.eye(2).repeat(3, 1, 1)}
    given |= {"prior": normal(3), "reach": 3.0, **change}
    with pytest.raises(ValueError, match=message):
        plots.posterior_ellipses(**given)
    grid = torch.linspace(-1, 1, 5)
    with pytest.raises(ValueError, match="scales are positive"):
        plots.posterior_densities(
            torch.zeros(2, 1), torch.zeros(2, 1), prior=torch.ones(1, 5), grid=grid, dims=(0,)
        )
