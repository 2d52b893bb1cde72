"""Plots: what is drawn is what was passed, and what cannot be drawn says so."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from pyrovae import plots
from pyrovae.training.history import History

NAN = float("nan")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def drawn(figure):
    """Return what the only image of a figure shows."""
    (axes,) = figure.axes
    (image,) = axes.images
    assert image.get_interpolation() == "nearest"
    assert image.get_clim() == (0, 1)
    return np.asarray(image.get_array())


def test_image_grid_shows_the_images_row_by_row():
    images = torch.rand(5, 1, 8, 8, dtype=torch.float64)
    figure = plots.image_grid(images, columns=3, title="five")
    pixels = drawn(figure)
    assert pixels.shape == (17, 26)
    np.testing.assert_array_equal(pixels[:8, 9:17], images[1, 0])
    np.testing.assert_array_equal(pixels[9:, :8], images[3, 0])
    assert (pixels[8] == 1).all()
    assert (pixels[9:, 18:] == 1).all()
    assert figure.axes[0].get_title() == "five"


def test_image_grid_takes_grey_without_channel_rgb_and_clips():
    assert drawn(plots.image_grid(torch.rand(4, 8, 8))).shape == (17, 17)
    rgb = torch.rand(4, 3, 8, 8, dtype=torch.float64)
    pixels = drawn(plots.image_grid(rgb))
    np.testing.assert_array_equal(pixels[:8, :8], rgb[0].permute(1, 2, 0))
    pixels = drawn(plots.image_grid(torch.tensor([[[-1.0, 2.0]]]), columns=1))
    assert pixels.tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.rand(4, 64), r"shape \(4, 64\), expected \(n, C, H, W\)"),
        (torch.rand(4, 2, 8, 8), "C = 1 or 3"),
        (torch.rand(0, 1, 8, 8), "at least one pixel"),
        (torch.full((2, 8, 8), 255, dtype=torch.uint8), "Divide by 255"),
    ],
)
def test_image_functions_refuse_what_is_no_image(images, message):
    for draw in (plots.image_grid, plots.samples, lambda x: plots.reconstructions(x, x)):
        with pytest.raises(ValueError, match=message):
            draw(images)


def test_samples_are_a_titled_grid():
    images = torch.rand(9, 1, 8, 8, dtype=torch.float64)
    figure = plots.samples(images)
    np.testing.assert_array_equal(drawn(figure)[:8, :8], images[0, 0])
    assert figure.axes[0].get_title() == "Samples from the prior"


def test_reconstructions_pair_rows_and_label_them():
    inputs, outputs = torch.rand(2, 13, 1, 8, 8, dtype=torch.float64)
    figure = plots.reconstructions(inputs, outputs)
    pixels = drawn(figure)
    np.testing.assert_array_equal(pixels[:8, 9:17], inputs[1, 0])
    np.testing.assert_array_equal(pixels[9:17, 9:17], outputs[1, 0])
    np.testing.assert_array_equal(pixels[20:28, :8], inputs[10, 0])
    np.testing.assert_array_equal(pixels[29:37, 18:26], outputs[12, 0])
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "input",
        "reconstruction",
    ] * 2
    assert axes.get_yticks().tolist() == [3.5, 12.5, 23.5, 32.5]
    with pytest.raises(ValueError, match=r"\(13, 1, 8, 8\) and outputs \(12, 1, 8, 8\)"):
        plots.reconstructions(inputs, outputs[:12])


def test_labels_of_reconstructions_are_not_cut():
    figure = plots.reconstructions(torch.rand(3, 8, 8), torch.rand(3, 8, 8), title="x")
    figure.draw_without_rendering()
    for label in figure.axes[0].get_yticklabels():
        assert label.get_window_extent().x0 >= 0


def test_prior_grid_is_row_major_with_the_second_coordinate_falling():
    grid = plots.prior_grid(3, 4, dims=(3, 1), low=0.1, high=0.9)
    assert grid.shape == (9, 4)
    assert (grid[:, [0, 2]] == 0).all()
    normal = torch.distributions.Normal(0.0, 1.0)
    rows = [0.9, 0.9, 0.9, 0.5, 0.5, 0.5, 0.1, 0.1, 0.1]
    # float32 quantiles
    torch.testing.assert_close(
        normal.cdf(grid[:, 3]), torch.tensor([0.1, 0.5, 0.9] * 3), atol=1e-6, rtol=0
    )
    torch.testing.assert_close(normal.cdf(grid[:, 1]), torch.tensor(rows), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1, 2), "n is 1"),
        ((3, 2, (0, 0)), "two different"),
        ((3, 2, (0, 2)), r"expected two of the latents 0\.\.1"),
        ((3, 2, (0, 1), 0.0), "low is 0.0"),
    ],
)
def test_prior_grid_mistakes(arguments, message):
    with pytest.raises(ValueError, match=message):
        plots.prior_grid(*arguments)


def test_manifold_is_seamless_and_labelled_with_quantiles():
    images = torch.rand(9, 1, 16, 12, dtype=torch.float64)
    figure = plots.manifold(images, 3, dims=(2, 5), low=0.1, high=0.9)
    pixels = drawn(figure)
    assert pixels.shape == (48, 36)
    np.testing.assert_array_equal(pixels[16:32, 24:], images[5, 0])
    axes = figure.axes[0]
    assert axes.get_xlabel().startswith("latent 2")
    assert axes.get_ylabel().startswith("latent 5")
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0.1", "0.5", "0.9"]
    # ticks at tile centres; the lowest quantile is the bottom row of tiles
    assert axes.get_xticks().tolist() == [5.5, 17.5, 29.5]
    assert axes.get_yticks().tolist() == [39.5, 23.5, 7.5]
    tiny = plots.manifold(images[..., :8, :6], 3)
    assert drawn(tiny).shape == (26, 20) and tiny.axes[0].get_xticks().tolist() == [2.5, 9.5, 16.5]
    with pytest.raises(ValueError, match="holds 8 images, expected n \\* n = 9"):
        plots.manifold(images[:8], 3)


def test_interpolate_is_straight_and_spherical_keeps_the_norm():
    a, b = torch.randn(2, 50, dtype=torch.float64)
    path = plots.interpolate(a, b, 5)
    torch.testing.assert_close(path[[0, 2, 4]], torch.stack([a, (a + b) / 2, b]))
    u, v = a / a.norm(), b / b.norm()
    arc = plots.interpolate_spherical(u, v, 7)
    torch.testing.assert_close(arc[[0, -1]], torch.stack([u, v]))
    torch.testing.assert_close(arc.norm(dim=-1), torch.ones(7, dtype=torch.float64))
    steps = (arc[1:] * arc[:-1]).sum(-1)
    torch.testing.assert_close(steps, steps[:1].expand(6))
    torch.testing.assert_close(
        plots.interpolate_spherical(a, 2 * a, 3), plots.interpolate(a, 2 * a, 3)
    )


def test_interpolate_mistakes():
    a = torch.randn(4)
    for path in (plots.interpolate, plots.interpolate_spherical):
        with pytest.raises(ValueError, match=r"\(4,\) and \(3,\)"):
            path(a, a[:3], 5)
        with pytest.raises(ValueError, match="steps is 1"):
            path(a, a, 1)
    with pytest.raises(ValueError, match="opposite"):
        plots.interpolate_spherical(a, -a, 3)
    with pytest.raises(ValueError, match="zero vector"):
        plots.interpolate_spherical(a, 0 * a, 3)


def test_interpolation_marks_the_ends():
    images = torch.rand(2, 4, 1, 8, 8, dtype=torch.float64)
    figure = plots.interpolation(images)
    np.testing.assert_array_equal(drawn(figure)[9:17, 18:26], images[1, 2, 0])
    corners = sorted(patch.get_xy() for patch in figure.axes[0].patches)
    assert corners == [(-0.5, -0.5), (-0.5, 8.5), (26.5, -0.5), (26.5, 8.5)]
    with pytest.raises(ValueError, match=r"expected \(rows, steps, C, H, W\)"):
        plots.interpolation(torch.rand(3, 8, 8))
    with pytest.raises(ValueError, match="1 step"):
        plots.interpolation(images[:, :1])


def test_interpolation_names_its_rows():
    images = torch.rand(2, 4, 1, 8, 8)
    axes = plots.interpolation(images, labels=["0 to 1", "3 to 8"], title="walks").axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0 to 1", "3 to 8"]
    assert (
        axes.get_yticks().tolist() == [3.5, 12.5] and axes.get_title() == "walks"
    )  # the middles of the rows
    with pytest.raises(ValueError, match="1 labels for 2 rows"):
        plots.interpolation(images, labels=["0 to 1"])


def test_curves_panels_and_values():
    history = {
        "elbo": [-9.0, -8.0, -7.0], "valid_elbo": [NAN, -8.5, NAN], "kl": [NAN] * 3,
        "active_units": [1, 2, 2], "beta": [1, 1, 1],
    }  # fmt: skip
    figure = plots.curves(history)
    assert [axes.get_title() for axes in figure.axes] == ["ELBO (nats per datum)", "Active units"]
    train, valid = figure.axes[0].lines
    assert train.get_xydata().tolist() == [[1, -9], [2, -8], [3, -7]]
    assert valid.get_xydata().tolist() == [[2, -8.5]]
    assert (train.get_label(), valid.get_label()) == ("training", "validation")


@pytest.mark.parametrize("units", [0, 5])
def test_curves_state_a_number_of_active_units_that_never_changes(units):
    """Its panel would be a bare line, or for 0 one that hides under the axis."""
    history = {"elbo": [-9.0, -8.0], "kl": [1.0, 2.0], "active_units": [units] * 2}
    assert [axes.get_title() for axes in plots.curves(history).axes] == [
        "ELBO (nats per datum)",
        f"KL (nats per datum); {units} active units",
    ]
    (axes,) = plots.curves({"active_units": [units] * 2}).axes  # nowhere else to say it
    assert (
        axes.get_title() == "Active units"
        and axes.get_ylim()[0] < axes.lines[0].get_ydata()[0] < axes.get_ylim()[1]
    )


def test_curves_ignore_wild_epochs_but_say_so():
    steady = [-100 - 1 / t for t in range(1, 40)]
    axes = plots.curves({"elbo": [-1e6, *steady]}).axes[0]
    low, high = axes.get_ylim()
    assert low > -110
    assert high > steady[-1]
    assert axes.get_legend().get_title().get_text().split()[0] == str(
        sum(v < low for v in [-1e6, *steady])
    )


def test_curves_always_show_the_last_value():
    low, _ = plots.curves({"elbo": [-100.0] * 30 + [-5000.0]}).axes[0].get_ylim()
    assert low < -5000


def test_curves_of_what_fit_returns():
    rows = [{"epoch": 5, "elbo": -3.0}, {"epoch": 6, "elbo": -2.0, "valid_elbo": -2.5}]
    lines = plots.curves(History(rows)).axes[0].lines
    np.testing.assert_array_equal(lines[0].get_xydata(), [[5, -3], [6, -2]])
    np.testing.assert_array_equal(lines[1].get_xydata(), [[6, -2.5]])
    with pytest.raises(TypeError, match="history is list, expected what fit returned"):
        plots.curves(rows)


def test_curves_mistakes():
    with pytest.raises(ValueError, match=r"holds \['loss'\]"):
        plots.curves({"loss": [1.0]})
    with pytest.raises(ValueError, match="2 values for 3 epochs"):
        plots.curves({"epoch": [1, 2, 3], "elbo": [1.0, 2.0]})


def test_latent_scatter_points_legend_and_circles():
    z, y = torch.randn(40, 3), torch.arange(40) % 4
    figure = plots.latent_scatter(z, y, dims=(2, 0))
    axes = figure.axes[0]
    np.testing.assert_array_equal(axes.collections[0].get_offsets(), z[:, [2, 0]])
    colours = axes.collections[0].get_facecolors()[:, :3]
    for legend, label in zip(figure.legends[0].legend_handles, range(4), strict=True):
        assert (colours[y == label] == legend.get_color()).all()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["0", "1", "2", "3"]
    assert [circle.get_radius() for circle in axes.patches] == [1, 2]
    assert axes.get_aspect() == 1
    assert axes.get_xlim() == axes.get_ylim()
    assert min(axes.get_xlim()[1], -axes.get_xlim()[0]) > 2
    other = plots.latent_scatter(z, standard_prior=False)
    assert not other.axes[0].patches and not other.legends


def test_latent_scatter_many_labels_get_a_colour_bar_and_none_gets_nothing():
    assert len(plots.latent_scatter(torch.randn(30, 2), torch.arange(30)).axes) == 2
    assert len(plots.latent_scatter(torch.randn(30, 2)).axes) == 1


def test_latent_scatter_mistakes():
    with pytest.raises(ValueError, match=r"z has shape \(5, 1\)"):
        plots.latent_scatter(torch.randn(5, 1))
    with pytest.raises(ValueError, match=r"y has shape \(4,\), expected \(5,\)"):
        plots.latent_scatter(torch.randn(5, 2), torch.zeros(4))
    with pytest.raises(ValueError, match="dims is"):
        plots.latent_scatter(torch.randn(5, 2), dims=(0, 2))


def test_kl_per_dim_sorts_names_and_colours():
    figure = plots.kl_per_dim(
        torch.tensor([0.0, 3.0, 0.5, 1.0], dtype=torch.float64), threshold=0.6
    )
    (axes,) = figure.axes
    assert [bar.get_height() for bar in axes.patches] == [3.0, 1.0, 0.5, 0.0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "3", "2", "0"]
    colours = [bar.get_facecolor() for bar in axes.patches]
    assert colours[0] == colours[1] != colours[2] == colours[3]
    assert "active: 2 of 4" in [text.get_text() for text in figure.legends[0].get_texts()]
    assert not plots.kl_per_dim(torch.rand(4), threshold=None).legends
    with pytest.raises(ValueError, match=r"kl has shape \(2, 3\)"):
        plots.kl_per_dim(torch.rand(2, 3))
    with pytest.raises(ValueError, match=r"dimensions \[1\]"):
        plots.kl_per_dim(torch.tensor([0.0, math.inf]))


def test_scores_stand_where_they_belong_with_their_errors():
    figure = plots.scores(["a", "b", "c"], [-3.0, -1.0, -2.0], [0.5, 0.25, 1.0], unit="nats")
    (axes,) = figure.axes
    assert (
        axes.containers[0].lines[0].get_xydata().tolist() == [[-3, 0], [-1, 1], [-2, 2]]
        and axes.get_xlabel() == "nats"
    )
    (bars,) = axes.containers[0].lines[2]
    assert [(part[0, 0], part[1, 0]) for part in bars.get_segments()] == [
        (-3.5, -2.5),
        (-1.25, -0.75),
        (-3.0, -1.0),
    ]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first on top
    for wrong in ((["a"], [1.0, 2.0]), ([], []), (["a"], [1.0], [1.0, 2.0])):
        with pytest.raises(ValueError, match="as many of each"):
            plots.scores(*wrong)


def test_paired_scores_keep_groups_apart():
    groups = {
        "probability": [
            plots.Score("a", -3.0, 0.5, 0.0, 0.0),
            plots.Score("b", -2.0, 0.5, 1.0, 0.125),
        ],
        "density": [plots.Score("c", 60.0, 2.0, 0.0, math.nan)],
    }
    figure = plots.paired_scores(groups, unit="nats", title="test")
    scores, gains, density = figure.axes
    assert scores.containers[0].lines[0].get_xydata().tolist() == [[-3, 0], [-2, 1]]
    assert gains.containers[0].lines[0].get_xydata().tolist() == [[0, 0], [1, 1]]
    (bars,) = gains.containers[0].lines[2]
    assert [(part[0, 0], part[1, 0]) for part in bars.get_segments()] == [(0, 0), (0.875, 1.125)]
    assert density.containers[0].lines[0].get_xydata().tolist() == [[60, 0]]
    assert (
        scores.get_xlim()[1] < 0 < density.get_xlim()[0]
        and scores.get_ylim()[0] > scores.get_ylim()[1]
    )
    assert [label.get_text() for label in scores.get_yticklabels()] == ["a", "b"]
    for wrong, words in (
        ({}, "0 groups"),
        ({"empty": []}, "none of them empty"),
        ({"x": [plots.Score("a", math.nan, 1, 0, 0)]}, "finite"),
    ):
        with pytest.raises(ValueError, match=words):
            plots.paired_scores(wrong)


def predictions(num=40):
    y = torch.randn(num)
    mean, deviation = y + 0.3, torch.full((num,), 0.5)
    return plots.Predictions(
        y, mean, deviation, mean - 0.2, mean + 0.8, (torch.arange(num) + 0.5) / num
    )


def test_predictions_stand_against_what_was_observed():
    p = predictions()._replace(lower=torch.full((40,), 0.0), upper=torch.full((40,), 9.0))
    (axes,) = plots.predicted_observed({"bbb": p}, title="own data").axes
    holds, misses = (
        next(line for line in axes.lines if word in line.get_label())
        for word in ("holds", "misses")
    )
    inside = p.observed >= 0
    np.testing.assert_allclose(holds.get_xydata(), torch.stack([p.observed, p.mean], 1)[inside])
    np.testing.assert_allclose(misses.get_xydata(), torch.stack([p.observed, p.mean], 1)[~inside])
    assert axes.get_title() == f"bbb\nintervals hold {100 * inside.double().mean():.0f} %"
    ends = [segment[:, 1].tolist() for segment in axes.collections[0].get_segments()]
    assert ends == [[0.0, 9.0]] * int(inside.sum())


def test_residuals_are_in_predictive_deviations():
    p = predictions()
    (axes,) = plots.residuals({"map": p}).axes
    np.testing.assert_allclose(axes.lines[-1].get_xdata(), p.mean)
    np.testing.assert_allclose(axes.lines[-1].get_ydata(), -0.6)
    assert axes.get_title() == "map\n0 % outside 2 s.d."
    assert sorted(line.get_ydata()[0] for line in axes.lines[:3]) == [-2, 0, 2]
    with pytest.raises(ValueError, match="expected positive"):
        plots.residuals({"map": p._replace(deviation=torch.zeros(40))})


def test_coverage_of_uniform_ranks_is_the_diagonal():
    p = predictions()
    calibrated, sure = (
        plots.coverage({"a": p, "b": p._replace(rank=torch.ones(40))}).axes[0].lines[1:]
    )
    np.testing.assert_allclose(calibrated.get_ydata(), calibrated.get_xdata(), atol=1e-12)
    assert sure.get_ydata().tolist() == [0.0] * 20 + [1.0]
    with pytest.raises(ValueError, match=r"expected \[0, 1\]"):
        plots.coverage({"a": p._replace(rank=p.rank + 1)})


@pytest.mark.parametrize("draw", [plots.predicted_observed, plots.residuals, plots.coverage])
def test_predictions_mistakes(draw):
    p = predictions()
    for wrong, words in (
        ({}, "no panel"),
        ({"a": p._replace(mean=p.mean[:3])}, r"mean of 'a' has shape \(3,\)"),
        ({"a": p._replace(observed=p.observed * NAN)}, "0 finite"),
        ({"a": plots.Predictions(*(values[:, None] for values in p))}, "a panel of its own"),
        ({"a": p._replace(lower=p.upper + 1)}, "lower end above"),
    ):
        with pytest.raises(ValueError, match=words):
            draw(wrong)


def test_gradient_variance_has_a_panel_for_each_objective():
    panels = {
        "ELBO": {"pathwise": [2.0, 1.0], "score": [300.0, 20.0]},
        "IWAE": {"DReG": [0.5, 0.1]},
    }
    figure = plots.gradient_variance([0, 5], panels, title="noise")
    assert [axes.get_title() for axes in figure.axes] == ["ELBO", "IWAE"]
    assert all(axes.get_yscale() == "log" for axes in figure.axes)
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()
    pathwise, score = figure.axes[0].lines
    assert (
        score.get_xydata().tolist() == [[0, 300], [5, 20]] and pathwise.get_label() == "pathwise"
    )
    assert pathwise.get_color() != score.get_color()
    (axes, _) = plots.gradient_variance([0, 100], panels).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "100"]
    with pytest.raises(ValueError, match="no series to draw"):
        plots.gradient_variance([0], {"ELBO": {}})
    with pytest.raises(ValueError, match=r"'a' holds \[1.0, 0.0\], expected 2 positive variances"):
        plots.gradient_variance([0, 1], {"ELBO": {"a": [1.0, 0.0]}})


def test_kl_parts_stack_to_the_kl():
    figure = plots.kl_parts(["none", "free bits"], [-0.001, 3.0], [0.1, 1.5])
    (axes,) = figure.axes
    information, marginal = axes.containers
    assert [bar.get_width() for bar in information] == [0.0, 3.0] and [
        bar.get_x() for bar in marginal
    ] == [0.0, 3.0]
    assert [bar.get_width() for bar in marginal] == [0.1, 1.5]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "none",
        "free bits",
    ] and axes.yaxis_inverted()
    with pytest.raises(ValueError, match="1 names, 2 mutual informations and 1 marginal KLs"):
        plots.kl_parts(["a"], [1.0, 2.0], [1.0])


def bands(**changes):
    x = torch.linspace(-2, 2, 5, dtype=torch.float64)
    parts = {
        "x": x,
        "mean": x**2,
        "epistemic": 0.1 + 0 * x,
        "total": 0.5 + 0 * x,
        "train_x": torch.tensor([0.0, 1.0, -1.0]),
        "train_y": torch.tensor([0.0, 1.0, 1.0]),
        "truth": None,
    }
    return plots.Bands(**(parts | changes))


def test_regression_bands_are_two_deviations_about_the_mean():
    figure = plots.regression_bands(
        {"a": bands(), "b": bands(truth=torch.zeros(5))}, xlabel="time"
    )
    first, second = figure.axes
    total, epistemic = (
        collection.get_paths()[0].get_extents() for collection in first.collections
    )
    assert (total.y0, total.y1, total.x0, total.x1) == (-1, 5, -2, 2)
    assert (epistemic.y0, epistemic.y1) == pytest.approx((-0.2, 4.2))
    mean, data = first.lines
    assert mean.get_xydata().tolist() == [[-2, 4], [-1, 1], [0, 0], [1, 1], [2, 4]]
    assert data.get_xydata().tolist() == [[0, 0], [1, 1], [-1, 1]] and len(second.lines) == 3
    assert first.get_title() == "a" and first.get_xlim() == second.get_xlim() == (-2, 2)
    assert [text.get_text() for text in figure.legends[0].get_texts()][2:] == [
        "mean",
        "truth",
        "training data",
    ]
    assert [axes.get_xlabel() for axes in figure.axes] == ["time"] * 2 and not second.get_ylabel()


def test_regression_bands_sort_x_and_let_wild_bands_run_out():
    order = torch.tensor([3, 0, 4, 1, 2])
    plain, shuffled = (
        bands(),
        bands(
            **{key: getattr(bands(), key)[order] for key in ("x", "mean", "epistemic", "total")}
        ),
    )
    lines = [
        plots.regression_bands({"": panel}).axes[0].lines[0].get_xydata().tolist()
        for panel in (plain, shuffled)
    ]
    assert lines[0] == lines[1]
    wild = bands(total=torch.full((5,), 1e3))
    assert plots.regression_bands({"tame": plain, "wild": wild}).axes[0].get_ylim() == (
        -0.5,
        1.5,
    )  # data 0..1, and half


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"mean": torch.zeros(5, 1)}, r"shape \(5, 1\).*as long as x \(5,\)"),
        ({"train_y": torch.zeros(2)}, r"as long as train_x \(3,\)"),
        ({"truth": torch.full((5,), NAN)}, "with 0 finite values"),
        ({"total": torch.full((5,), 0.05)}, "total one below it"),
        ({"epistemic": torch.full((5,), -0.1)}, "negative epistemic"),
    ],
)
def test_regression_bands_mistakes(changes, message):
    with pytest.raises(ValueError, match=message):
        plots.regression_bands({"a": bands(**changes)})


def test_reliability_diagram_draws_full_bins_and_the_error():
    panel = torch.tensor([NAN, 0.6, 0.9]), torch.tensor([NAN, 0.5, 1.0]), torch.tensor([0, 30, 10])
    figure = plots.reliability_diagram({"MAP": panel, "HMC": panel})
    axes = figure.axes[0]
    assert axes.get_title() == "MAP\nECE 0.100"  # 3/4 0.1 + 1/4 0.1
    bars, points = axes.containers
    assert [bar.get_height() for bar in bars] == [0, 0.75, 0.25]
    assert [bar.get_x() + bar.get_width() / 2 for bar in bars] == pytest.approx(
        [1 / 6, 1 / 2, 5 / 6]
    )
    assert points.lines[0].get_xydata().tolist() == [[0.6, 0.5], [0.9, 1.0]]
    (low, high), (lowest, highest) = (
        segment[:, 1] for segment in points.lines[2][0].get_segments()
    )
    # Wilson, by hand: 30 of which half; 10 of which all, n / (n + z^2)
    assert (low + high) / 2 == pytest.approx(0.5) and high - 0.5 == pytest.approx(
        1.96 / 2 / (30 + 1.96**2) ** 0.5
    )
    assert lowest == pytest.approx(10 / (10 + 1.96**2)) and highest == pytest.approx(1)


def test_reliability_diagram_mistakes():
    third = torch.tensor([0.1, 0.5, 0.9])
    with pytest.raises(ValueError, match="no panel"):
        plots.reliability_diagram({})
    with pytest.raises(ValueError, match=r"accuracy \(2,\)"):
        plots.reliability_diagram({"a": (third, third[:2], torch.ones(3))})
    with pytest.raises(ValueError, match="0 data"):
        plots.reliability_diagram({"a": (third, third, torch.zeros(3))})
    with pytest.raises(ValueError, match="bins of equal width.*adaptive=False"):
        plots.reliability_diagram({"a": (third.flip(0), third, torch.ones(3))})


def test_entropy_histograms_are_shares_in_shared_bins():
    panels = {
        "a": (torch.zeros(5), torch.full((3,), math.log(4))),
        "b": (torch.full((2,), 1.0), torch.zeros(1)),
    }
    figure = plots.entropy_histograms(panels, num_classes=4, bins=3)
    shares = [[patch.get_data().values.tolist() for patch in axes.patches] for axes in figure.axes]
    assert (
        shares[0] == [[1, 0, 0], [0, 0, 1]] * 2
    )  # filled, then outlined; log C is in the last bin
    assert shares[1] == [[0, 0, 1], [1, 0, 0]] * 2
    edges = [patch.get_data().edges.tolist() for axes in figure.axes for patch in axes.patches]
    assert all(edge == edges[0] for edge in edges) and edges[0][-1] == math.log(4)
    assert plots.entropy_histograms(panels).axes[0].get_xlim() == pytest.approx((0, math.log(4)))
    assert len(plots.entropy_histograms({"a": (torch.zeros(5), torch.zeros(5))}).axes) == 1


def test_entropy_histograms_mistakes():
    with pytest.raises(ValueError, match="no panel"):
        plots.entropy_histograms({})
    for wrong, message in (
        (torch.zeros(2, 2), r"shape \(2, 2\)"),
        (torch.zeros(0), r"shape \(0,\)"),
        (torch.tensor([-0.5]), "-0.5"),
        (torch.tensor([NAN]), "nan"),
        (torch.tensor([2.0]), "log 4 = 1.386"),
    ):
        with pytest.raises(ValueError, match=f"'out of distribution'.*{message}"):
            plots.entropy_histograms({"a": (torch.zeros(3), wrong)}, num_classes=4)


def test_panels_fill_rows_evenly_and_name_the_last_axis_of_each_column():
    figure = plots.regression_bands({str(n): bands() for n in range(5)})
    assert len(figure.axes) == 5 and [axes.get_title() for axes in figure.axes] == list("01234")
    assert [axes.get_xlabel() for axes in figure.axes] == ["", "", "x", "x", "x"]
    assert [axes.get_ylabel() for axes in figure.axes] == ["y", "", "", "y", ""]
    assert len(figure.legends[0].get_texts()) == 4


def test_comparison_draws_sorted_lines_with_errors():
    lines = {
        "MAP": plots.Line([90, 0], torch.tensor([0.25, 1.0]), [0.125, 0.5]),
        "HMC": ([0, 45, 90], [1, 0.75, 0.5]),
    }
    figure = plots.comparison(lines, "angle", "accuracy", xlog=False, title="rotated")
    (axes,) = figure.axes
    first, second = axes.containers
    assert first.lines[0].get_xydata().tolist() == [[0, 1], [90, 0.25]]
    assert [segment[:, 1].tolist() for segment in first.lines[2][0].get_segments()] == [
        [0.5, 1.5],
        [0.125, 0.375],
    ]
    assert (
        second.lines[0].get_xydata().tolist() == [[0, 1], [45, 0.75], [90, 0.5]]
        and not second.has_yerr
    )
    styles = {(c.lines[0].get_color(), c.lines[0].get_marker()) for c in axes.containers}
    assert len(styles) == 2 and [text.get_text() for text in figure.legends[0].get_texts()] == [
        "MAP",
        "HMC",
    ]
    many = (
        plots.comparison({str(n): ([0, 1], [n, n]) for n in range(16)}, "x", "y")
        .axes[0]
        .containers
    )
    assert len({(c.lines[0].get_color(), c.lines[0].get_markerfacecolor()) for c in many}) == 16
    assert (
        plots.comparison(lines | {"MAP": ([1], [1])}, "n", "error", xlog=True).axes[0].get_xscale()
        == "log"
    )
    for wrong, message in (
        ({}, "0 lines"),
        ({str(n): ([0], [0]) for n in range(17)}, "17 lines"),
        ({"a": ([0, 1], [0])}, r"y \(1,\)"),
        ({"a": ([0], [NAN])}, "finite"),
        ({"a": ([0], [0], [0, 1])}, r"se \(2,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            plots.comparison(wrong, "x", "y")


def test_nothing_is_drawn_outside_the_figure():
    """Legends, titles and labels of one panel and of many, with long names."""
    name = "a deep ensemble of ten"
    panel = (torch.tensor([0.4, 0.9]), torch.tensor([0.5, 0.7]), torch.tensor([2, 8]))
    for count in (1, 2, 4, 5):
        names = [f"{name}, {n}" for n in range(count)]
        for figure in (
            plots.regression_bands(
                {name: bands(truth=torch.zeros(5)) for name in names}, title="fit"
            ),
            plots.reliability_diagram(dict.fromkeys(names, panel)),
            plots.entropy_histograms(dict.fromkeys(names, panel[:2]), num_classes=10),
            plots.comparison(dict.fromkeys(names, panel), "x", "y"),
        ):
            figure.canvas.draw()
            inner, outer = figure.get_tightbbox(), figure.bbox_inches
            assert (
                inner.x0 > -0.1
                and inner.y0 > -0.1
                and inner.x1 < outer.x1 + 0.1
                and inner.y1 < outer.y1 + 0.1
            )


def test_save_writes_whole_pngs_and_nothing_else(tmp_path):
    folder = tmp_path / "a" / "b"
    figures = {
        "grid": plots.image_grid(torch.rand(4, 8, 8)),
        "kl": plots.kl_per_dim(torch.rand(3)),
    }
    paths = plots.save(figures, folder)
    assert paths == {"grid": folder / "grid.png", "kl": folder / "kl.png"}
    assert sorted(path.name for path in folder.iterdir()) == ["grid.png", "kl.png"]
    for path in paths.values():
        assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_save_leaves_the_old_file_when_drawing_fails(tmp_path):
    class Broken(Figure):
        def savefig(self, fname, **_):
            fname.write(b"half")
            raise RuntimeError("no")

    (tmp_path / "x.png").write_bytes(b"old")
    with pytest.raises(RuntimeError, match="no"):
        plots.save({"x": Broken()}, tmp_path)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]
    with pytest.raises(ValueError, match="plain file name"):
        plots.save({"../x": Figure()}, tmp_path)


def test_no_pyplot_and_no_plots_on_import_of_the_package():
    code = (
        "import sys, pyrovae; assert 'pyrovae.plots' not in sys.modules;"
        "import pyrovae.plots as p, torch; p.image_grid(torch.rand(2, 8, 8));"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_rank_histograms_show_counts_and_binomial_bands():
    from scipy.stats import binom

    counts, expected = torch.tensor([70, 30, 50, 50]), torch.full((4,), 50.0)
    figure = plots.rank_histograms({"w[0]": (counts, expected), "w[1]": (expected, expected)})
    first = figure.axes[0]
    steps = [patch.get_data() for patch in first.patches]
    low, high = binom(200, 0.25).ppf([0.005, 0.995])
    assert set(steps[0].values) == {high} and set(np.atleast_1d(steps[0].baseline)) == {low}
    assert steps[-1].values.tolist() == counts.tolist()
    assert [axes.get_title() for axes in figure.axes] == ["w[0]", "w[1]"]


def test_the_joint_band_of_ecdfs_keeps_its_promise():
    """Of 2000 lines of uniform values 95 % stay inside, within 5 standard errors."""
    size, grid, noise = 60, np.linspace(0, 1, 101), np.random.default_rng(1)
    figure = plots.rank_ecdf({"w": {"uniform": torch.rand(size)}})
    (band,) = figure.axes[0].collections
    outline = band.get_paths()[0].vertices
    low, high = (
        np.array([choose(outline[np.isclose(outline[:, 0], x), 1]) for x in grid])
        for choose in (np.min, np.max)
    )
    values = np.sort(noise.random((2000, size)), 1)
    lines = (values[:, :, None] <= grid).mean(1) - grid
    inside = ((lines >= low - 1e-9) & (lines <= high + 1e-9)).all(1).mean()
    assert abs(inside - 0.95) < 5 * (0.95 * 0.05 / 2000) ** 0.5


def test_predictive_checks_mark_the_data():
    figure = plots.predictive_checks(
        {
            "sd": (torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor(3.0)),
            "mean": (torch.rand(9), 5.0),
        }
    )
    assert [axes.get_title() for axes in figure.axes] == ["sd\np = 0.375", "mean\np = 0.000"]
    assert figure.axes[0].lines[0].get_xdata()[0] == 3.0


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.rank_histograms({}), "no panel"),
        (
            lambda: plots.rank_histograms({"w": (torch.ones(3, 2), torch.ones(3))}),
            r"counts \(3, 2\)",
        ),
        (
            lambda: plots.rank_histograms({"w": (torch.ones(3), torch.ones(3) * 2)}),
            "3 ranks and 6 are",
        ),
        (lambda: plots.rank_ecdf({"w": {}}), "panels of 1 to 6 methods"),
        (
            lambda: plots.rank_ecdf({"w": {"a": torch.rand(5), "b": torch.rand(4)}}),
            r"\(R,\) = \(5,\)",
        ),
        (lambda: plots.rank_ecdf({"w": {"a": torch.arange(3)}}), r"range \[0, 2\]"),
        (lambda: plots.predictive_checks({}), "no panel"),
        (
            lambda: plots.predictive_checks({"sd": (torch.rand(3), torch.rand(3))}),
            r"value of shape \(3,\)",
        ),
        (lambda: plots.predictive_checks({"sd": (torch.tensor([NAN]), 1.0)}), "all finite"),
    ],
)
def test_rank_plots_refuse_what_they_cannot_draw(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


def test_latent_panels_of_several_sizes_and_labels():
    panels = {"a": torch.randn(6, 2), "b": torch.randn(3, 2), "c": torch.randn(4, 2)}
    labels = {"a": torch.tensor([0, 1, 2, 0, 1, 2]), "b": torch.tensor([2, 2, 1])}
    figure = plots.latent_panels(panels, labels)
    colours = [axes.collections[0].get_facecolors() for axes in figure.axes]
    assert [len(one) for one in colours] == [6, 3, 1]
    np.testing.assert_array_equal(colours[0][[2, 5, 1]], colours[1])
    assert [text.get_text() for text in figure.legends[0].get_texts()][1:] == ["0", "1", "2"]
    for axes, z in zip(figure.axes, panels.values(), strict=True):
        np.testing.assert_allclose(axes.collections[0].get_offsets(), z)
    assert len(plots.latent_panels(panels).legends[0].get_texts()) == 1
    with pytest.raises(ValueError, match=r"y has shape \(6,\), expected \(3,\), .* code of 'b'"):
        plots.latent_panels(panels, labels["a"])
    with pytest.raises(ValueError, match="y names 'd', expected names of panels"):
        plots.latent_panels(panels, {"d": labels["a"]})
    for shape in ((5, 3), (5,), (0, 2)):
        with pytest.raises(ValueError, match=r"expected \(N, 2\)"):
            plots.latent_panels({**panels, "d": torch.zeros(shape)})
    with pytest.raises(ValueError, match="at least one panel"):
        plots.latent_panels({})
