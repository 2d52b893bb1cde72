"""A trained VAE, to sample from, encode, decode and score with, on new data too."""

import dataclasses
import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, cast

import torch
from torch import Tensor

import pyrovae as pv
from pyrovae.core.batching import device_of
from pyrovae.core.preserve_state import preserve_state
from pyrovae.core.subnormals import flush_subnormals
from pyrovae.data import Batches
from pyrovae.plots.interpolation import interpolate, interpolate_spherical
from pyrovae.recipes.condition_columns import ConditionColumns
from pyrovae.recipes.conditions import Task
from pyrovae.recipes.loaded_run import LoadedRun
from pyrovae.recipes.machine import cpu_threads
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.vae import prepare, threads_of
from pyrovae.recipes.vae_layout import VaeLayout, Values
from pyrovae.recipes.vae_means import mean_of
from pyrovae.recipes.vae_metrics import metrics_of
from pyrovae.recipes.vae_settings import Settings

CHUNK = 500
"""Data that pass through the nets together."""
Kind = Literal["draw", "mean"]


@dataclasses.dataclass(frozen=True)
class Codes:
    """q(z | x) of N data at one latent site, on the CPU.

    mean, scale: `(N, D)`, exact where the guide knows them, else over `draws`, `(K, N, D)`.
    """

    mean: Tensor
    scale: Tensor
    draws: Tensor


@dataclasses.dataclass(frozen=True, repr=False)
class TrainedVae(LoadedRun):
    """A run of `train_vae.py`. Data go in as the user has them (see `VaeLayout.to_model`) and come
    out in the same units, on the CPU; every draw is by `seed`, and no random stream moves.

    Conditional models take what they are given as `c`: labels `(N,)` under `--condition label`,
    vectors `(N, C)` of the user's own; the conditions that are a part of x are read off x.
    """

    settings: Settings
    model: pv.Model

    @functools.cached_property
    def layout(self) -> VaeLayout:
        return VaeLayout.of(self.settings, self.run["data"])

    @functools.cached_property
    def task(self) -> Task | None:
        condition, data = self.settings.data.condition, self.run["data"]
        if condition == "none":
            return None
        condition = condition if self.columns is None else "own"
        return Task(condition, tuple(data["event_shape"]), data["num_conditions"])

    @property
    def columns(self) -> ConditionColumns | None:
        """Where the conditions are columns of a table."""
        return ConditionColumns.from_facts(self.run["data"])

    @property
    def site(self) -> str:
        """The latent site next to the data."""
        return self.settings.model.layers[0]

    def batch(self, x: Values, *, c: Values | None = None, seed: int = 0) -> dict[str, Tensor]:
        """New data as the model and the guide take them."""
        values = self.layout.to_model(x, seed=seed)
        if self.task is not None:
            labels: dict[str, Tensor] = {}
            if self.task.name in ("label", "own"):
                if c is None:
                    kind = "labels, (N,)" if self.task.name == "label" else "rows, (N, C)"
                    raise Refusal(f"the model is conditional, p(x | c): pass c={kind}.")
                rows = self._condition(c, len(values))
                labels = {"y": rows.argmax(1)} if self.task.name == "label" else {"c": rows}
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                parts = self.task.split({"x": values, **labels})
            return {"x": parts["x"], "c": parts["c"]}
        if c is not None:
            raise Refusal("the model takes no condition; leave out c.")
        return {"x": values.reshape(len(values), *self.run["data"]["x_shape"])}

    def sample(
        self, num: int, *, kind: Kind = "draw", c: Values | None = None, seed: int = 0
    ) -> Tensor:
        """`num` draws from the model, `(num, *event_shape)`: of x, or the means of p(x | z) at draws
        of z. c: for each of them."""
        if self.settings.model.prior == "flat":
            raise Refusal(
                "the prior is flat, so there are no draws from it; decode codes of data."
            )
        given = {} if c is None else {"c": self._condition(c, num)}
        if c is None and self.run["data"]["num_conditions"]:
            raise Refusal("the model is conditional, p(x | c): pass c, one for each sample.")
        parts = []
        with self.evaluation(seed) as device:
            for start in range(0, num, CHUNK):
                size = min(CHUNK, num - start)
                some = {
                    name: part[start : start + size].to(device) for name, part in given.items()
                }
                values = {**some, **self.model(num=size, **some)}
                x = values["x"] if kind == "draw" else mean_of(self.model.nodes["x"](values))
                parts.append(self._image(x, values.get("c")))
        return torch.cat(parts)

    def encode(
        self,
        x: Values,
        *,
        c: Values | None = None,
        num_draws: int = 100,
        site: str | None = None,
        seed: int = 0,
    ) -> Codes:
        """q(z | x) at `site` (by default the one next to the data)."""
        site = self.site if site is None else site
        if site not in self.settings.model.layers:
            raise Refusal(
                f"there is no latent site {site!r}; expected {self.settings.model.layers}."
            )
        batch, parts = self.batch(x, c=c, seed=seed), []
        with self.evaluation(seed):
            for part in _chunks(batch):
                draws = pv.predict(
                    self.model, self.guide, part, num_samples=num_draws, sites=[site]
                )
                exact = self._moments(part, site)
                mean, scale = exact or (draws[site].mean(0), draws[site].std(0))
                parts.append((mean.cpu(), scale.cpu(), draws[site].cpu()))
        means, scales, drawn = zip(*parts, strict=True)
        return Codes(torch.cat(means), torch.cat(scales), torch.cat(drawn, dim=1))

    def decode(
        self, z: Values, *, kind: Kind = "mean", c: Values | None = None, seed: int = 0
    ) -> Tensor:
        """p(x | z) at values `(..., D)` of the site next to the data: its means, or draws,
        `(..., *event_shape)`."""
        z = torch.as_tensor(z, dtype=torch.float32)
        width = self.settings.model.latent_dim[0]
        if z.dim() < 2 or z.shape[-1] != width:
            raise Refusal(
                f"z has shape {tuple(z.shape)}, expected (..., {width}) with a leading dim."
            )
        flat, parts = z.reshape(-1, width), []
        given = None if c is None else self._condition(c, len(flat))
        with self.evaluation(seed) as device:
            for start in range(0, len(flat), CHUNK):
                rows = slice(start, start + CHUNK)
                values = {self.site: flat[rows].to(device)}
                if given is not None:
                    values["c"] = given[rows].to(device)
                fn = self.model.nodes["x"](values)
                parts.append(self._image(fn() if kind == "draw" else mean_of(fn), values.get("c")))
        x = torch.cat(parts)
        return x.reshape(*z.shape[:-1], *x.shape[1:])

    def reconstruct(self, x: Values, *, c: Values | None = None, seed: int = 0) -> Tensor:
        """The mean of p(x | z) at the mean of q(z | x), `(N, *event_shape)`."""
        batch = self.batch(x, c=c, seed=seed)
        return self.decode(
            self.encode(x, c=c, num_draws=1 if self.is_exact else 100, seed=seed).mean,
            c=batch.get("c"),
        )

    def log_evidence(
        self, x: Values, *, num_particles: int = 1000, c: Values | None = None, seed: int = 0
    ) -> pv.Evidence:
        """log p(x_i) of each datum by importance sampling, in nats with its error; see
        `pyrovae.log_evidence`."""
        if self.settings.model.guide == "point":
            raise Refusal("an autoencoder has no log p(x); use reconstruct or encode.")
        batch = self.batch(x, c=c, seed=seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return pv.log_evidence(self.model, self.guide, batch, num_particles=num_particles)

    def evaluate(self) -> dict:
        test, threads = self.data("test"), threads_of(self.settings, self.run["data"]["x_shape"])
        guide = cast(pv.Guide, self.guide)
        programs = [self.model, guide]
        with cpu_threads(threads), preserve_state(programs, training=False, seed=0):
            return metrics_of(self.settings, self.model, guide, test)

    def interpolate(
        self, start: Values, end: Values, *, num_steps: int = 9, spherical: bool = False
    ) -> Tensor:
        """Means of p(x | z) between the codes of N pairs of data, `(N, num_steps, *event_shape)`."""
        if len(start) != len(end):
            raise Refusal(
                f"{len(start)} starts and {len(end)} ends, expected as many: they are pairs."
            )
        path = interpolate_spherical if spherical else interpolate
        codes = zip(self.encode(start).mean, self.encode(end).mean, strict=True)
        return self.decode(torch.stack([path(a, b, num_steps) for a, b in codes]))

    def attribute(self, name: str, *, split: str = "train") -> Tensor:
        """The direction of an attribute in latent space, `(D,)`: "y=3" is the mean code of the data
        of class 3 minus the mean code of the others. Add multiples of it to a code, and decode."""
        key, _, value = name.partition("=")
        data = self.data(split).data.tensors
        if key not in data or not value.lstrip("-").isdigit():
            labels = sorted(data.keys() - {"x", "c"})
            raise Refusal(f"attribute {name!r}: expected LABEL=NUMBER with a label of {labels}.")
        chosen = data[key] == int(value)
        if not chosen.any() or chosen.all():
            raise Refusal(
                f"attribute {name!r}: {int(chosen.sum())} of {len(chosen)} data have it; expected some and not all."
            )
        return _direction(self._means(data), chosen)

    def attributes(self, *, key: str = "y", split: str = "train") -> dict[str, Tensor]:
        """The direction (see `attribute`) of each value of a label, "y=0", "y=1", ..., the data being
        encoded once; none where there is no such label, or one value alone."""
        data = self.data(split).data.tensors
        values = data[key].unique().tolist() if key in data else []
        if len(values) < 2:
            return {}
        means = self._means(data)
        return {f"{key}={value}": _direction(means, data[key] == value) for value in values}

    def _load(self, split: str, network: int) -> Batches | None:
        prepared = prepare(self.settings)
        self.folder.refuse_other_data(prepared.digest())
        return {"train": prepared.train, "valid": prepared.valid, "test": prepared.test}[split]

    @property
    def is_exact(self) -> bool:
        """Whether q(z | x) has a mean in closed form."""
        return (
            len(self.settings.model.layers) == 1
            and self.settings.model.guide
            in (
                "point",
                "diagonal",
                "full-rank",
                "low-rank",
                "mixture",
            )
            and not self.settings.objective.refine_steps
        )

    def _moments(self, batch: dict[str, Tensor], site: str) -> tuple[Tensor, Tensor] | None:
        if not self.is_exact:
            return None
        device = device_of(self.guide)
        fn = cast(pv.Guide, self.guide).nodes[site](
            {name: value.to(device) for name, value in batch.items()}
        )
        return fn.mean, fn.variance.sqrt()

    def _means(self, data: dict[str, Tensor]) -> Tensor:
        """Posterior means of data as the model takes them, `(N, D)`."""
        with self.evaluation(0):
            return torch.cat([self._posterior_means(part) for part in _chunks(data)])

    def _posterior_means(self, batch: dict[str, Tensor]) -> Tensor:
        exact = self._moments(batch, self.site)
        if exact is not None:
            return exact[0].cpu()
        draws = pv.predict(self.model, self.guide, batch, num_samples=100, sites=[self.site])
        return draws[self.site].mean(0).cpu()

    def _condition(self, c: Values, num: int) -> Tensor:
        """`(num, C)` from labels or vectors."""
        values, width = torch.as_tensor(c), self.run["data"]["num_conditions"]
        if not width:
            raise Refusal("the model takes no condition; leave out c (or --label).")
        if self.task is not None and self.task.name == "label" and values.dim() == 1:
            known = torch.tensor(self.run["data"].get("classes") or range(width))
            unknown = values[~torch.isin(values, known)]
            if len(unknown):
                raise Refusal(
                    f"c holds the label {unknown[0].item()}, expected some of {known.tolist()}."
                )
            values = torch.nn.functional.one_hot(torch.searchsorted(known, values), width)
        if tuple(values.shape) != (num, width):
            raise Refusal(f"c has shape {tuple(values.shape)}, expected ({num}, {width}).")
        return values.float()

    def _image(self, x: Tensor, c: Tensor | None) -> Tensor:
        if self.task is not None and c is not None:
            x = self.task.image(x, c)
        return self.layout.to_user(x).cpu()

    @contextmanager
    def evaluation(self, seed: int = 0) -> Iterator[torch.device]:
        """Eval mode without gradients, random streams at `seed` and restored after; gives the
        device of the model."""
        device = device_of(self.model) or torch.device("cpu")
        with (
            torch.no_grad(),
            preserve_state([self.model, self.guide], training=False, seed=seed),
            flush_subnormals(),
        ):
            yield device


def _chunks(batch: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    size = len(next(iter(batch.values())))
    for start in range(0, size, CHUNK):
        yield {name: value[start : start + CHUNK] for name, value in batch.items()}


def _direction(means: Tensor, chosen: Tensor) -> Tensor:
    return means[chosen].mean(0) - means[~chosen].mean(0)
