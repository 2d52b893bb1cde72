"""A zoo of wrong pairs and inputs: each would run, or fail obscurely, and each has its own
message."""

import math
import warnings
from collections.abc import Callable

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

import pyrovae as pv
from pyrovae.heads import (
    BernoulliHead,
    CategoricalHead,
    ContinuousBernoulliHead,
    FixedScaleNormalHead,
    NormalHead,
)
from pyrovae.nets import MLP
from pyrovae.priors import StandardNormal

X = torch.ones(3, 4)


@pytest.fixture(autouse=True)
def float32(clean: None) -> None:
    """The zoo is built at import, in torch's default precision."""
    torch.set_default_dtype(torch.float32)


class Fixed(nn.Module):
    """A conditional that ignores its parents."""

    def __init__(self, fn: dist.Distribution) -> None:
        super().__init__()
        self.fn = fn

    def forward(self, *_: Tensor) -> dist.Distribution:
        return self.fn


def model(
    likelihood: nn.Module | None = None, prior: nn.Module | None = None, **names: str
) -> pv.Model:
    z = names.get("z", "z")
    return pv.Model(
        **{
            z: prior or StandardNormal(2),
            "x": pv.Node(likelihood or BernoulliHead(MLP(2, [8], 4)), z),
        }
    )


def guide(encoder: nn.Module | None = None, z: str = "z") -> pv.Guide:
    return pv.Guide(**{z: pv.Node(encoder or NormalHead(MLP(4, [8], 4)), "x")})


def shapeless_guide(x: Tensor) -> None:
    with pyro.plate("data", len(x), dim=-1):
        pyro.sample("z", dist.Normal(torch.zeros(len(x), 2).T, 1.0))


def forgot_to_event(x: Tensor) -> None:
    with pyro.plate("data", len(x), dim=-1):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample(
            "x", dist.Bernoulli(logits=z.sum(-1, keepdim=True).expand(len(x), 4).T), obs=x.T
        )


def no_plate(x: Tensor) -> None:
    z = pyro.sample("z", dist.Normal(torch.zeros(len(x), 2), 1.0).to_event(2))
    pyro.sample(
        "x", dist.Bernoulli(logits=z.sum(-1, keepdim=True).expand(len(x), 4)).to_event(2), obs=x
    )


def plate_of_wrong_size(x: Tensor) -> None:
    with pyro.plate("data", 7, dim=-1):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    with pyro.plate("more", len(x), dim=-1):
        pyro.sample("x", dist.Bernoulli(logits=torch.zeros(4)).to_event(1), obs=x)
    assert len(z) == 7


def plate_at_wrong_dim(x: Tensor) -> None:
    with pyro.plate("data", len(x), dim=-2):
        pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Bernoulli(logits=torch.zeros(4)).to_event(1), obs=x.unsqueeze(-2))


def observing_guide(x: Tensor) -> None:
    with pyro.plate("data", len(x), dim=-1):
        pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Bernoulli(0.5 * torch.ones(4)).to_event(1), obs=x)


def infinite_model(x: Tensor) -> None:
    with pyro.plate("data", len(x), dim=-1):
        pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(torch.zeros(4), 1e-30).to_event(1), obs=x)


def weights_and_data(x: Tensor) -> None:
    pyro.sample("w", dist.Normal(0.0, 1.0))
    observing_guide(x)


def weights_guide(x: Tensor) -> None:
    pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x), dim=-1):
        pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))


def single_row(x: Tensor) -> None:
    with pyro.plate("data", len(x), dim=-1):
        pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Bernoulli(0.5 * torch.ones(4)).to_event(1), obs=x[0])


def negative_scale(x: Tensor) -> None:
    with pyro.plate("data", len(x), dim=-1):
        pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(torch.zeros(4), -1.0).to_event(1), obs=x)


def observing(change: Callable[[Tensor], Tensor]) -> Callable[[Tensor], None]:
    """A model whose site "x" observes `change(x)`."""

    def program(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(0.5 * torch.ones(4)).to_event(1), obs=change(x))

    return program


class Centred(nn.Module):
    """A decoder that looks at the whole batch."""

    def __init__(self) -> None:
        super().__init__()
        self.net = MLP(2, [8], 4)

    def forward(self, z: Tensor) -> Tensor:
        return 9 * self.net(z - z.mean(0))


class Noisy(nn.Module):
    """A decoder that injects noise in eval mode too."""

    def __init__(self) -> None:
        super().__init__()
        self.net = MLP(2, [8], 4)

    def forward(self, z: Tensor) -> Tensor:
        return 9 * self.net(z + torch.randn_like(z))


same = model()
CLASS = Fixed(dist.Categorical(torch.ones(3)))
ANGLES = Fixed(dist.VonMises(torch.zeros(2), 1.0).to_event(1))
TURN = Fixed(dist.Uniform(torch.full((2,), -math.pi), math.pi).to_event(1))
SQUASHED = Fixed(
    dist.TransformedDistribution(
        dist.Normal(torch.zeros(2), 1.0),
        [
            dist.transforms.SigmoidTransform(),
            dist.transforms.AffineTransform(-math.pi, 2 * math.pi),
        ],
    ).to_event(1)
)
LOGNORMAL = Fixed(dist.LogNormal(torch.zeros(2), 1.0).to_event(1))
ZOO: dict[str, tuple[Callable, Callable, object, str]] = {
    "grey pixels": (
        model(),
        guide(),
        {"x": 0.5 * X},
        r"Bernoulli on \{0, 1\}, but the data hold grey values such as 0.5",
    ),
    "0-255 pixels": (model(), guide(), {"x": 200 * X}, "look like 0-255 pixels. Divide by 255"),
    "0-255 under a continuous Bernoulli": (
        model(ContinuousBernoulliHead(MLP(2, [8], 4))),
        guide(),
        {"x": 200 * X},
        "look like 0-255 pixels",
    ),
    "level out of range": (
        model(CategoricalHead(MLP(2, [8], 3 * 4), event_shape=(4,))),
        guide(),
        {"x": 3 * X},
        "Categorical with support .* but the data lie in",
    ),
    "NaN": (
        model(),
        guide(),
        {"x": torch.where(torch.eye(3, 4) > 0, torch.nan, X)},
        "3 NaN or infinite values, the first in row 0",
    ),
    "empty batch": (model(), guide(), {"x": X[:0]}, "the batch is empty"),
    "no tensors": (model(), guide(), {}, "the batch is empty"),
    "a tuple": (model(), guide(), (X,), "a batch is tuple, expected a mapping"),
    "a list in the batch": (model(), guide(), {"x": [1.0]}, r"batch\['x'\] is list"),
    "a scalar": (
        model(),
        guide(),
        {"x": torch.tensor(1.0)},
        "is a scalar, expected a leading data dimension",
    ),
    "unequal sizes": (model(), guide(), {"x": X, "y": X[:2]}, "differ in leading size"),
    "wrong width": (model(), guide(), {"x": torch.ones(3, 5)}, r"the guide fails .*\(x: \(3, 5\)"),
    "wrong dtype": (model(), guide(), {"x": X.double()}, "torch.float64.* with RuntimeError"),
    "misnamed data": (
        model(),
        pv.Guide(z=pv.Node(NormalHead(MLP(4, [8], 4)), "images")),
        {"images": X},
        r"observes nothing: its sites are \['x', 'z'\] and the batch names \['images'\]",
    ),
    "data in another case": (
        model(),
        pv.Guide(z=pv.Node(NormalHead(MLP(4, [8], 4)), "X")),
        {"X": X},
        "batch key 'X' differs from site 'x' in case alone: spell them alike",
    ),
    "labels in another case": (
        pv.Model(z=StandardNormal(2), y=CLASS, x=pv.Node(BernoulliHead(MLP(2, [8], 4)), "z")),
        guide(),
        {"x": X, "Y": torch.arange(3)},
        "batch key 'Y' differs from site 'y' in case alone",
    ),
    "missing parent": (
        model(),
        pv.Guide(z=pv.Node(NormalHead(MLP(4, [8], 4)), "image")),
        {"x": X},
        r"Guide site 'z' depends on \['image'\]",
    ),
    "guide misses a site": (
        pv.Model(
            z=StandardNormal(2), a=StandardNormal(1), x=pv.Node(BernoulliHead(MLP(2, [8], 4)), "z")
        ),
        guide(),
        {"x": X},
        r"the guide misses latent sites \['a'\]",
    ),
    "guide has a site too many": (
        model(),
        pv.Joint(guide(), guide(z="other")),
        {"x": X},
        r"the guide samples \['other'\], which the model does not",
    ),
    "misspelt site": (
        model(),
        guide(z="zz"),
        {"x": X},
        r"the guide misses latent sites \['z'\] .*has \['zz'\]",
    ),
    "event shapes differ": (
        model(),
        guide(NormalHead(MLP(4, [8], 6))),
        {"x": X},
        r"event shape \(2,\) in the model and \(3,\) in the guide|the model fails",
    ),
    "guide without to_event": (
        model(),
        shapeless_guide,
        {"x": X},
        "the model fails|event shape|log-probabilities",
    ),
    "likelihood without to_event": (
        forgot_to_event,
        guide(),
        {"x": X},
        r"log-probabilities of shape \(4, 3\), expected "
        r"\(3,\)",
    ),
    "no plate": (no_plate, no_plate, {"x": X}, "outside plate 'data'|same object"),
    "model without plate": (
        no_plate,
        guide(),
        {"x": X},
        r"'z' lies in plates \(name: dim\) {} in the model and in {'data': -1}",
    ),
    "plate of wrong size": (
        plate_of_wrong_size,
        guide(),
        {"x": X},
        "plate 'data' of size|the model fails",
    ),
    "plate at wrong dim": (
        plate_at_wrong_dim,
        pyro.poutine.block(plate_at_wrong_dim, hide=["x"]),
        {"x": X},
        "at dim -2, but the batch has 3 data",
    ),
    "plates at different dims": (
        plate_at_wrong_dim,
        guide(),
        {"x": X},
        "{'data': -2} in the model and in {'data': -1}",
    ),
    "guide observes": (
        model(),
        observing_guide,
        {"x": X},
        r"the guide observes \['x'\]; a guide only samples",
    ),
    "swapped": (guide(), model(), {"x": X}, "the model observes nothing"),
    "one program twice": (same, same, {"x": X}, "are the same object"),
    "not callable": (model(), "guide", {"x": X}, "the guide is str, expected a callable"),
    "one row for all": (
        lambda x: single_row(x),
        guide(),
        {"x": X},
        "would be repeated for each of the 3 data",
    ),
    "too few pixels": (
        model(BernoulliHead(MLP(2, [8], 1))),
        guide(),
        {"x": X},
        r"event shape \(1,\), but its data \(3, 4\)",
    ),
    "too many pixels": (
        model(BernoulliHead(MLP(2, [8], 4))),
        guide(NormalHead(MLP(1, [8], 4))),
        {"x": X[:, :1]},
        "which would be broadcast",
    ),
    "data mixed within the batch": (
        model(BernoulliHead(Centred())),
        guide(),
        {"x": X},
        "nats with the other rows of its batch",
    ),
    "rows in another order": (
        observing(lambda x: x.flip(0)),
        guide(),
        {"x": torch.eye(3, 4)},
        r"in another order \(2 of 3 are not their own\)",
    ),
    "all data masked": (
        lambda x: masked(x, torch.zeros(3, 4) > 0),
        guide(),
        {"x": X},
        r"\['x'\] are masked away.*is -KL",
    ),
    "all data masked by a handler": (
        pyro.poutine.mask(observing(Tensor.clone), mask=False),
        guide(),
        {"x": X},
        "are masked away",
    ),
    "scaled model": (
        pyro.poutine.scale(model(), 0.5),
        guide(),
        {"x": X},
        "by 0.5 in the model and by 1 in the guide",
    ),
    "scaled guide": (
        model(),
        pyro.poutine.scale(guide(), torch.tensor([1.0, 1.0, 0.5])),
        {"x": X},
        "by 1 in the model and by 0.5 in the guide",
    ),
    "negative scale": (
        lambda x: negative_scale(x),
        guide(),
        {"x": X},
        r"has scale in \[-1, -1\], but Normal expects",
    ),
    "unbounded guide in a box": (
        model(prior=Fixed(dist.Uniform(torch.full((2,), -9.0), 9.0).to_event(1))),
        guide(),
        {"x": X},
        "the guide draws values outside the model's support, Interval",
    ),
    "an angle on a line": (
        model(prior=ANGLES),
        guide(),
        {"x": X},
        r"outside the model's support, Interval.*VonMises\(batch",
    ),
    "inputs off the scale": (
        model(FixedScaleNormalHead(MLP(2, [8], 4), scale=1.0)),
        guide(),
        {"x": 1e4 * X},
        r"scale of the inputs \(nets.Standardized\)",
    ),
    "infinite log-probability": (
        infinite_model,
        guide(),
        {"x": X},
        "3 non-finite log-probabilities",
    ),
    "guide leaves the support": (
        model(prior=LOGNORMAL),
        guide(),
        {"x": X},
        "draws values outside the model's support",
    ),
    "guide misses support": (
        model(),
        guide(LOGNORMAL),
        {"x": X},
        "cannot reach all of the model's support",
    ),
    "N unknown": (
        weights_and_data,
        weights_guide,
        {"x": X},
        "'w' lies outside plate 'data'.*pass num_data=N",
    ),
    "not a distribution": (
        model(MLP(2, [8], 4)),
        guide(),
        {"x": X},
        "got Tensor, but a conditional returns a distribution",
    ),
}


@pytest.mark.parametrize("name", ZOO)
def test_zoo(name: str) -> None:
    wrong_model, wrong_guide, batch, message = ZOO[name]
    with pytest.raises((pv.PairError, TypeError), match=message):
        pv.check(wrong_model, wrong_guide, batch)


def test_num_data_below_the_batch() -> None:
    with pytest.raises(pv.PairError, match="num_data=2 is less than the 3 data"):
        pv.check(model(), guide(), {"x": X}, num_data=2)


RIGHT: dict[str, tuple[Callable, Callable, dict, dict]] = {
    "vae": (model(), guide(), {"x": X}, {}),
    "labels ride along": (model(), guide(), {"x": X, "y": torch.arange(3)}, {}),
    "a condition in another case": (
        pv.Model(
            z=pv.Node(NormalHead(MLP(3, [8], 4)), "Z"),
            x=pv.Node(BernoulliHead(MLP(2, [8], 4)), "z"),
        ),
        guide(),
        {"x": X, "Z": torch.ones(3, 3)},
        {},
    ),
    "angles": (model(prior=ANGLES), guide(ANGLES), {"x": X}, {}),
    "angles from anywhere on the circle": (model(prior=TURN), guide(ANGLES), {"x": X}, {}),
    "a whole turn for an angle": (model(prior=ANGLES), guide(TURN), {"x": X}, {}),
    "squashed into a box": (model(prior=TURN), guide(SQUASHED), {"x": X}, {}),
    "normal": (model(FixedScaleNormalHead(MLP(2, [8], 4), scale=0.1)), guide(), {"x": 3 * X}, {}),
    "N known": (weights_and_data, weights_guide, {"x": X}, {"num_data": 3}),
    "masked pixels": (
        lambda x, mask: masked(x, mask),
        lambda x, mask: shapely(x),
        {"x": torch.where(torch.eye(3, 4) > 0, -1.0, X), "mask": torch.eye(3, 4) == 0},
        {},
    ),
    "missing pixels set to zero": (
        lambda x, mask: masked(x * mask, mask),
        lambda x, mask: shapely(x),
        {"x": X, "mask": torch.eye(3, 4) == 0},
        {},
    ),
    "no labels in this batch": (
        lambda x, y, has_y: labelled(x, y, has_y),
        lambda x, y, has_y: shapely(x),
        {"x": X, "y": torch.zeros(3), "has_y": torch.zeros(3) > 0},
        {},
    ),
    "both scaled": (
        pyro.poutine.scale(model(), 0.1),
        pyro.poutine.scale(guide(), torch.tensor(0.1)),
        {"x": X},
        {},
    ),
    "data scaled": (lambda x: weighted(x), lambda x: shapely(x), {"x": X}, {}),
    # total_count is the largest of the batch, as in Pyro's ProdLDA tutorial: the density takes
    # each row's own sum
    "documents of unequal length": (
        lambda x: documents(x),
        lambda x: shapely(x),
        {"x": torch.tril(torch.ones(3, 4))},
        {},
    ),
    "noise inside the decoder": (
        model(BernoulliHead(Noisy())),
        guide(),
        {"x": torch.eye(3, 4)},
        {},
    ),
    "plates entered in another order": (
        lambda x: two_plates(x, -1, -2),
        lambda x: two_plates(x, -2, -1),
        {"x": X},
        {},
    ),
    "whole numbers observed as floats": (
        observing(Tensor.float),
        lambda x: shapely(x),
        {"x": X.long()},
        {},
    ),
    "data in another precision": (
        observing(Tensor.float),
        lambda x: shapely(x),
        {"x": X.double()},
        {},
    ),
    "data binarised by the model": (
        observing(lambda x: (x > 0.5).to(x)),
        lambda x: shapely(x),
        {"x": torch.rand(3, 4, generator=torch.Generator().manual_seed(0))},
        {},
    ),
    "data reshaped": (
        observing(lambda x: x.flatten(1)),
        lambda x: shapely(x),
        {"x": torch.eye(3, 4).reshape(3, 2, 2)},
        {},
    ),
    "weights in a feature plate": (
        lambda x: feature_plate(x),
        lambda x: feature_plate(x, False),
        {"x": X},
        {"num_data": 3},
    ),
    "hand-written": (observing_guide, lambda x: shapely(x), {"x": X}, {}),
}


def shapely(x: Tensor) -> None:
    with pyro.plate("data", len(x), dim=-1):
        pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))


def masked(x: Tensor, mask: Tensor) -> None:
    with pyro.plate("data", len(x), dim=-1):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Bernoulli(logits=z.repeat(1, 2)).mask(mask).to_event(1), obs=x)


def labelled(x: Tensor, y: Tensor, has_y: Tensor) -> None:
    with pyro.plate("data", len(x), dim=-1):
        pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Bernoulli(0.5 * torch.ones(4)).to_event(1), obs=x)
        pyro.sample("y", dist.Bernoulli(0.5).mask(has_y), obs=y)


def weighted(x: Tensor) -> None:
    with pyro.plate("data", len(x), dim=-1):
        pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        with pyro.poutine.scale(scale=torch.tensor([1.0, 2.0, 3.0])[: len(x)]):
            pyro.sample("x", dist.Bernoulli(0.5 * torch.ones(4)).to_event(1), obs=x)


def documents(x: Tensor) -> None:
    with pyro.plate("data", len(x), dim=-1):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Multinomial(int(x.sum(-1).max()), logits=z.repeat(1, 2)), obs=x)


def two_plates(x: Tensor, *dims: int) -> None:
    """Latent pixels in a plate of their own. The model enters the plates in one order, its guide
    in the other."""
    plates = {-1: pyro.plate("data", len(x), dim=-1), -2: pyro.plate("pixels", 4, dim=-2)}
    with plates[dims[0]], plates[dims[1]]:
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        if dims[0] == -1:
            pyro.sample("x", dist.Bernoulli(logits=z), obs=x.T)


def feature_plate(x: Tensor, is_model: bool = True) -> None:
    with pyro.plate("features", 4, dim=-2):
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x), dim=-1):
        if is_model:
            pyro.sample("x", dist.Normal(w.squeeze(-1), 1.0).to_event(1), obs=x)


@pytest.mark.parametrize("name", RIGHT)
def test_right_pairs_pass_in_silence(name: str) -> None:
    right_model, right_guide, batch, options = RIGHT[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pv.check(right_model, right_guide, batch, **options)


def test_check_leaves_no_trace() -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 4))
    pair = model(), guide(NormalHead(net))
    pair[1].train()
    before, state = (
        {name: value.clone() for name, value in pair[1].state_dict().items()},
        torch.get_rng_state(),
    )
    pv.check(*pair, {"x": X})
    assert torch.equal(torch.get_rng_state(), state) and pair[1].training
    assert all(torch.equal(value, before[name]) for name, value in pair[1].state_dict().items())


def test_program_errors_name_the_way_out() -> None:
    with pytest.raises(ValueError, match="at least one node"):
        pv.Model()
    with pytest.raises(TypeError, match="a Node takes an nn.Module"):
        pv.Node(dist.Normal(0.0, 1.0))
    with pytest.raises(TypeError, match="names of sites or data"):
        pv.Node(MLP(2, [8], 4), 3)
    with pytest.raises(ValueError, match="num=B to sample without data"):
        model()()
    with pytest.raises(ValueError, match=r"x: \(3, 4\), y: \(2, 4\)"):
        model()(x=X, y=X[:2])
    with pytest.raises(ValueError, match="num=5"):
        model()(num=5, x=X)


@pytest.mark.parametrize("num_data", [None, 100])
def test_a_data_plate_of_another_name_is_named(num_data: int | None) -> None:
    """With `num_data` alone such a pair would train on the wrong scale, in silence."""

    def regression(x: torch.Tensor, y: torch.Tensor) -> None:
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        with pyro.plate("obs", len(x)):
            pyro.sample("y", dist.Normal(w * x, 1.0), obs=y)

    def weight(x: torch.Tensor, y: torch.Tensor) -> None:
        pyro.sample("w", dist.Normal(torch.zeros(()), 1.0))

    batch = {"x": torch.zeros(5), "y": torch.zeros(5)}
    words = (
        "site 'y' is observed in plate 'obs', which has the size of the batch, 5.*Pass plate='obs'"
    )
    with pytest.raises(pv.PairError, match=words):
        pv.check(regression, weight, batch, num_data=num_data)
    with pytest.raises(
        pv.PairError, match=words if num_data else "site 'w' lies outside plate 'data'"
    ):
        pv.ElboLoss(regression, weight, num_data=num_data)(**batch)
    pv.check(regression, weight, batch, num_data=100, plate="obs")
    pv.ElboLoss(regression, weight, num_data=100, plate="obs")(**batch)
