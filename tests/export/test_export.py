"""Export: names, sizes and values arrive in ArviZ as the docstring says, for both of its native
types."""

import subprocess
import sys
from functools import partial

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal

import pyrovae as pv
from pyrovae.core.broadcasting import Particles
from pyrovae.export import to_inference_data

pytestmark = [
    # ArviZ 0.23 announces 1.0 on the first import of the day
    pytest.mark.filterwarnings(r"ignore:\s*ArviZ is undergoing a major refactor:FutureWarning"),
    # ArviZ 0.23 under matplotlib 3.11
    pytest.mark.filterwarnings(
        "ignore:Passing a dict or None as alias_mapping:DeprecationWarning"
    ),
]
K, B, Z, X = 400, 5, 2, 3


@pytest.fixture
def draws():
    torch.manual_seed(0)
    x = torch.randn(B, X)
    predicted = torch.randn(K, B, X)
    return {
        "posterior": {"z": torch.randn(K, B, Z), "w": torch.randn(K, 1, X, Z)},
        "posterior_predictive": {"x": predicted},
        "log_likelihood": {
            "x": torch.distributions.Normal(0.1 * predicted, 1.0).log_prob(x).sum(-1)
        },
        "prior": {"z": torch.randn(10, 1, Z)},
        "sample_stats": {"log_joint": torch.randn(K)},
        "observed_data": {"x": x},
        "constant_data": {"index": torch.arange(B)},
    }


def test_type_is_the_installed_arviz_native_type(draws):
    import arviz
    import xarray

    old = arviz.__version__.startswith("0.")
    assert type(to_inference_data(draws)) is (arviz.InferenceData if old else xarray.DataTree)


def test_dims_coords_and_values(draws):
    data = to_inference_data(draws, dims={"z": ["latent"]}, coords={"data": list("abcde")})
    z = data["posterior"]["z"]
    assert dict(z.sizes) == {"chain": 1, "draw": K, "data": B, "latent": Z}
    assert z["data"].values.tolist() == list("abcde")
    assert z["latent"].values.tolist() == [0, 1]
    np.testing.assert_array_equal(z.values[0], draws["posterior"]["z"].numpy())
    assert data["posterior"]["w"].dims == ("chain", "draw", "w_dim_0", "w_dim_1")
    assert data["posterior_predictive"]["x"].dims == ("chain", "draw", "data", "x_dim_0")
    assert data["observed_data"]["x"].dims == ("data", "x_dim_0")
    assert data["log_likelihood"]["x"].dims == ("chain", "draw", "data")
    assert data["prior"]["z"].dims == ("chain", "draw", "latent")
    assert data["sample_stats"]["log_joint"].dims == ("chain", "draw")
    assert data["constant_data"]["index"].dims == ("data",)
    np.testing.assert_array_equal(
        data["observed_data"]["x"].values, draws["observed_data"]["x"].numpy()
    )


def test_attributes(draws):
    data = to_inference_data(draws)
    assert data.attrs["inference_library"] == "pyrovae"
    assert data["log_likelihood"]["x"].attrs["units"] == "nats"
    assert np.datetime64(data.attrs["created_at"].removesuffix("+00:00")) > np.datetime64(
        "2020-01-01"
    )


def test_dims_do_not_touch_the_log_likelihood_and_can_name_a_global_site(draws):
    draws["posterior"]["w"] = draws["posterior"]["w"][:, 0]
    data = to_inference_data(draws, dims={"x": ["pixel"], "w": ["out", "in"]})
    assert data["log_likelihood"]["x"].dims == ("chain", "draw", "data")
    assert data["observed_data"]["x"].dims == ("data", "pixel")
    assert data["posterior"]["w"].dims == ("chain", "draw", "out", "in")


def test_chains_split_the_draws_in_order():
    z = torch.arange(12.0).reshape(6, 2)
    data = to_inference_data({"posterior": {"z": z}}, num_chains=3)
    assert dict(data["posterior"]["z"].sizes) == {"chain": 3, "draw": 2, "data": 2}
    assert data["posterior"]["z"].sel(chain=1, draw=0).values.tolist() == [4.0, 5.0]


def test_images_are_named_only_when_their_sizes_agree():
    images = {
        "observed_data": {"x": torch.zeros(4, 1, 8, 6)},
        "posterior_predictive": {"x": torch.zeros(2, 4, 1, 8, 6)},
    }
    named = to_inference_data(images)
    assert named["observed_data"]["x"].dims == ("data", "channel", "height", "width")
    assert named["posterior_predictive"]["x"].dims == (
        "chain",
        "draw",
        "data",
        "channel",
        "height",
        "width",
    )
    images["constant_data"] = {"mask": torch.zeros(4, 1, 4, 4)}
    assert to_inference_data(images)["observed_data"]["x"].dims == (
        "data",
        "x_dim_0",
        "x_dim_1",
        "x_dim_2",
    )


def test_numpy_bfloat16_and_gradients_are_accepted():
    z = torch.ones(3, 2, dtype=torch.bfloat16, requires_grad=True)
    data = to_inference_data({"posterior": {"z": z, "y": np.ones((3, 2), dtype=np.int64)}})
    assert data["posterior"]["z"].dtype == np.float32
    assert data["posterior"]["y"].dtype == np.int64


@pytest.mark.parametrize(
    ("draws", "options", "message"),
    [
        ({"guide": {"z": torch.zeros(3, 2)}}, {}, "'guide', expected some of posterior, "),
        ({"posterior": torch.zeros(3, 2)}, {}, "is a Tensor, expected a mapping"),
        ({}, {}, "holds no variable"),
        ({"posterior": {"z": torch.tensor(0.0)}}, {}, r"posterior\['z'\] has shape \(\)"),
        ({"posterior": {"z": torch.zeros(3, 2)}}, {"coords": {"data": [1, 2, 3]}}, r"\['z'\] .* 2 along .*'data'.* 3"),
        ({"posterior": {"z": torch.zeros(3, 2), "y": torch.zeros(3, 4)}}, {}, r"\['y'\] .* 4 .*\['z'\] has 2"),
        ({"posterior": {"x": torch.zeros(3, 2, 5)}, "observed_data": {"x": torch.zeros(2, 4)}}, {}, "'x_dim_0'"),
        ({"posterior": {"z": torch.zeros(3, 2), "y": torch.zeros(4, 2)}}, {}, "different numbers of draws"),
        ({"posterior": {"z": torch.zeros(3, 2)}}, {"num_chains": 2}, "expected a divisor"),
        ({"posterior": {"z": torch.zeros(3, 2)}}, {"dims": {"y": ["a"]}}, r"dims names \['y'\]"),
        ({"posterior": {"z": torch.zeros(3, 2)}}, {"coords": {"latent": [0]}}, r"coords names \['latent'\]"),
        ({"posterior": {"z": torch.zeros(3, 2, 4)}}, {"dims": {"z": ["a", "b", "c"]}}, "Name each of those"),
    ],
)  # fmt: skip
def test_mistakes_are_named(draws, options, message):
    with pytest.raises(ValueError, match=message):
        to_inference_data(draws, **options)


def test_loo_reads_the_log_likelihood(draws):
    import arviz

    loo = arviz.loo(to_inference_data(draws))
    # plain importance-sampling leave-one-out, 1 / mean(1 / p(x_i | z)): the weights here vary by
    # about 10 %, so
    # Pareto smoothing of their tail moves a datum by far less than 0.02 nats
    plain = np.log(K) - torch.logsumexp(-draws["log_likelihood"]["x"], 0)
    assert float(getattr(loo, "elpd_loo", None) or loo.elpd) == pytest.approx(
        float(plain.sum()), abs=0.02 * B
    )


def test_summary_and_posterior_predictive_plot_run(draws):
    import arviz

    data = to_inference_data(draws, dims={"z": ["latent"]}, num_chains=2)
    summary = arviz.summary(data, var_names=["z"])
    assert len(summary) == B * Z
    # ArviZ 1.x rounds in its summary
    assert float(summary["mean"].iloc[0]) == pytest.approx(
        float(draws["posterior"]["z"][:, 0, 0].mean()), abs=0.06
    )
    plot = getattr(arviz, "plot_ppc", None) or arviz.plot_ppc_dist
    assert plot(data) is not None


def test_netcdf_round_trip(draws, tmp_path):
    pytest.importorskip("h5netcdf")
    pytest.importorskip("h5py")
    import arviz

    data = to_inference_data(draws, dims={"z": ["latent"]})
    data.to_netcdf(str(tmp_path / "draws.nc"), engine="h5netcdf")
    back = arviz.from_netcdf(str(tmp_path / "draws.nc"), engine="h5netcdf")
    np.testing.assert_array_equal(back["posterior"]["z"].values, data["posterior"]["z"].values)
    assert back["posterior"]["z"].dims == ("chain", "draw", "data", "latent")
    assert back.attrs["inference_library"] == "pyrovae"


def test_arviz_1_gets_a_datatree_and_no_migration_warning(draws, monkeypatch):
    import types
    import warnings

    import xarray

    def answer(name):  # what ArviZ 1.3 does with the old name
        if name == "InferenceData":
            warnings.warn(
                "arviz.InferenceData is no longer available", FutureWarning, stacklevel=2
            )
            return xarray.DataTree
        raise AttributeError(name)

    module = types.ModuleType("arviz")
    module.__getattr__ = answer
    monkeypatch.setitem(sys.modules, "arviz", module)
    data = to_inference_data(draws)
    assert type(data) is xarray.DataTree
    assert set(data.children) == set(draws)
    assert data["posterior"]["z"].sizes["draw"] == K


def test_import_is_cheap():
    code = "import sys, pyrovae.export; sys.exit(bool({'arviz', 'xarray', 'matplotlib'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def group_model(x, y=None, *, product=torch.matmul):
    g = (x[:, 0] > 0).long()
    noise = pyro.sample("noise", dist.Gamma(2.0, 2.0))
    w = pyro.sample("w", dist.Normal(torch.zeros(2, 3), 1.0).to_event(2))
    with pyro.plate("groups", 2):
        alpha = pyro.sample("alpha", dist.Normal(torch.zeros(3), noise.unsqueeze(-1)).to_event(1))
        pyro.sample("size", dist.Normal(alpha.sum(-1), 1.0), obs=torch.tensor([0.5, 1.0]))
    with pyro.plate("rows", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        loc = product(x, w.squeeze(-3) if w.dim() > 3 else w) + alpha[..., g, :] + z.unsqueeze(-1)
        pyro.sample("y", dist.Normal(loc, noise.unsqueeze(-1)).to_event(1), obs=y)


@pytest.mark.parametrize("num_data", [B, 2, 1])
@pytest.mark.parametrize("product", [torch.matmul, torch.mm])  # one draw at a time with the latter
def test_plates_name_the_dims_of_posterior_draws(num_data, product):
    pyro.set_rng_seed(0)
    batch = {"x": torch.randn(num_data, 2), "y": torch.randn(num_data, 3)}
    model = partial(group_model, product=product)
    assert Particles.of(model, AutoNormal(model), batch).at_once == (product is torch.matmul)
    guide = AutoNormal(group_model)
    draws = pv.posterior_draws(model, guide, batch, num_samples=7, plate="rows")
    assert set(draws["posterior"]) == {"noise", "w", "alpha", "z"}
    data = to_inference_data(draws, coords={"groups": ["a", "b"]}, dims={"y": ["target"]})
    shapes = {name: data["posterior"][name].dims[2:] for name in draws["posterior"]}
    assert shapes == {
        # fmt: skip
        "noise": (),
        "w": ("w_dim_0", "w_dim_1"),
        "alpha": ("groups", "alpha_dim_0"),
        "z": ("data",),
    }
    assert data["posterior_predictive"]["size"].dims == ("chain", "draw", "groups")
    assert data["observed_data"]["size"].dims == ("groups",)
    assert data["observed_data"]["y"].dims == ("data", "target")
    assert data["log_likelihood"]["y"].dims == ("chain", "draw", "data")
    assert data["posterior"]["alpha"]["groups"].values.tolist() == ["a", "b"]
    np.testing.assert_array_equal(
        data["posterior"]["alpha"].values[0], draws["posterior"]["alpha"].numpy()
    )
    np.testing.assert_array_equal(
        data["posterior"]["w"].values[0], draws["posterior"]["w"].numpy()[:, 0]
    )
    named = to_inference_data(draws, dims={"alpha": ["team", "skill"], "w": ["in", "out"]})
    assert named["posterior"]["alpha"].dims[2:] == ("team", "skill")
    assert named["posterior"]["w"].dims[2:] == ("in", "out")


def test_what_is_fixed_is_data_and_no_replicate():
    batch = {"x": torch.randn(B, 2), "y": torch.randn(B, 3)}
    model = pyro.condition(group_model, data={"noise": torch.tensor(0.5)})
    draws = pv.posterior_draws(model, AutoNormal(model), batch, num_samples=7, plate="rows")
    assert set(draws["posterior_predictive"]) == {"size", "y"} and set(draws["posterior"]) == {
        "w",
        "alpha",
        "z",
    }
    data = to_inference_data(draws)
    assert (
        data["observed_data"]["noise"].dims == () and float(data["observed_data"]["noise"]) == 0.5
    )
