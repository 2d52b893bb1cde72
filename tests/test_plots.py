"""Plots: what is drawn is what was passed, and what cannot be drawn says so."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from pyrovae import plots

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
        (torch.rand(4, 64), r"shape \(4, 64\), wanted \(n, C, H, W\)"),
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
    assert [label.get_text() for label in axes.get_yticklabels()] == ["input", "reconstruction"] * 2
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
    torch.testing.assert_close(normal.cdf(grid[:, 3]), torch.tensor([0.1, 0.5, 0.9] * 3), atol=1e-6, rtol=0)
    torch.testing.assert_close(normal.cdf(grid[:, 1]), torch.tensor(rows), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1, 2), "n is 1"),
        ((3, 2, (0, 0)), "two different"),
        ((3, 2, (0, 2)), r"wanted two of the latents 0\.\.1"),
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
    with pytest.raises(ValueError, match="holds 8 images, wanted n \\* n = 9"):
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
    torch.testing.assert_close(plots.interpolate_spherical(a, 2 * a, 3), plots.interpolate(a, 2 * a, 3))


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
    with pytest.raises(ValueError, match=r"wanted \(rows, steps, C, H, W\)"):
        plots.interpolation(torch.rand(3, 8, 8))
    with pytest.raises(ValueError, match="1 step"):
        plots.interpolation(images[:, :1])


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


def test_curves_ignore_wild_epochs_but_say_so():
    steady = [-100 - 1 / t for t in range(1, 40)]
    axes = plots.curves({"elbo": [-1e6, *steady]}).axes[0]
    low, high = axes.get_ylim()
    assert low > -110
    assert high > steady[-1]
    assert axes.get_legend().get_title().get_text().split()[0] == str(sum(v < low for v in [-1e6, *steady]))


def test_curves_always_show_the_last_value():
    low, _ = plots.curves({"elbo": [-100.0] * 30 + [-5000.0]}).axes[0].get_ylim()
    assert low < -5000


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
    with pytest.raises(ValueError, match=r"y has shape \(4,\), wanted \(5,\)"):
        plots.latent_scatter(torch.randn(5, 2), torch.zeros(4))
    with pytest.raises(ValueError, match="dims is"):
        plots.latent_scatter(torch.randn(5, 2), dims=(0, 2))


def test_kl_per_dim_sorts_names_and_colours():
    figure = plots.kl_per_dim(torch.tensor([0.0, 3.0, 0.5, 1.0], dtype=torch.float64), threshold=0.6)
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
    assert axes.containers[0].lines[0].get_xydata().tolist() == [[-3, 0], [-1, 1], [-2, 2]] and axes.get_xlabel() == "nats"
    (bars,) = axes.containers[0].lines[2]
    assert [(part[0, 0], part[1, 0]) for part in bars.get_segments()] == [(-3.5, -2.5), (-1.25, -0.75), (-3.0, -1.0)]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first on top
    for wrong in ((["a"], [1.0, 2.0]), ([], []), (["a"], [1.0], [1.0, 2.0])):
        with pytest.raises(ValueError, match="as many of each"):
            plots.scores(*wrong)


def test_gradient_variance_has_a_panel_for_each_objective():
    panels = {"ELBO": {"pathwise": [2.0, 1.0], "score": [300.0, 20.0]}, "IWAE": {"DReG": [0.5, 0.1]}}
    figure = plots.gradient_variance([0, 5], panels, title="noise")
    assert [axes.get_title() for axes in figure.axes] == ["ELBO", "IWAE"]
    assert all(axes.get_yscale() == "log" for axes in figure.axes)
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()
    pathwise, score = figure.axes[0].lines
    assert score.get_xydata().tolist() == [[0, 300], [5, 20]] and pathwise.get_label() == "pathwise"
    assert pathwise.get_color() != score.get_color()
    (axes, _) = plots.gradient_variance([0, 100], panels).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "100"]
    with pytest.raises(ValueError, match="no series to draw"):
        plots.gradient_variance([0], {"ELBO": {}})
    with pytest.raises(ValueError, match=r"'a' holds \[1.0, 0.0\], wanted 2 positive variances"):
        plots.gradient_variance([0, 1], {"ELBO": {"a": [1.0, 0.0]}})


def test_kl_parts_stack_to_the_kl():
    figure = plots.kl_parts(["none", "free bits"], [-0.001, 3.0], [0.1, 1.5])
    (axes,) = figure.axes
    information, marginal = axes.containers
    assert [bar.get_width() for bar in information] == [0.0, 3.0] and [bar.get_x() for bar in marginal] == [0.0, 3.0]
    assert [bar.get_width() for bar in marginal] == [0.1, 1.5]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["none", "free bits"] and axes.yaxis_inverted()
    with pytest.raises(ValueError, match="1 names, 2 mutual informations and 1 marginal KLs"):
        plots.kl_parts(["a"], [1.0, 2.0], [1.0])


def test_save_writes_whole_pngs_and_nothing_else(tmp_path):
    folder = tmp_path / "a" / "b"
    figures = {"grid": plots.image_grid(torch.rand(4, 8, 8)), "kl": plots.kl_per_dim(torch.rand(3))}
    paths = plots.save(figures, folder)
    assert paths == {"grid": folder / "grid.png", "kl": folder / "kl.png"}
    assert sorted(path.name for path in folder.iterdir()) == ["grid.png", "kl.png"]
    for path in paths.values():
        assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_save_leaves_the_old_file_when_drawing_fails(tmp_path):
    class Broken(Figure):
        def savefig(self, fname, **_):
            fname.write_bytes(b"half")
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
