"""A trained Bayesian neural network, to predict with."""

import dataclasses
import functools
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

import pyrovae as pv
from pyrovae.core.batching import device_of
from pyrovae.core.preserve_state import preserve_state
from pyrovae.data import Batches, DictDataset
from pyrovae.prediction.mixture import NormalMixture, predict_mixtures
from pyrovae.recipes.bnn_data import load_task
from pyrovae.recipes.bnn_layout import BnnLayout
from pyrovae.recipes.bnn_methods import METHODS
from pyrovae.recipes.bnn_prediction import ClassPrediction, Prediction, RegressionPrediction
from pyrovae.recipes.bnn_predictor import Predictor, load_predictor, scales_of
from pyrovae.recipes.bnn_scores import score
from pyrovae.recipes.bnn_settings import BnnSettings
from pyrovae.recipes.bnn_train import Trained
from pyrovae.recipes.bnn_unknown import load_unknown
from pyrovae.recipes.loaded_run import LoadedRun
from pyrovae.recipes.machine import cpu_threads
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.vae_layout import Values

CHUNK = 1000
"""Data that pass through the net together."""
Chunks = list[dict[str, Tensor]]
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, repr=False)
class TrainedBnn(LoadedRun):
    """A run of `train_bnn.py`. Data go in as the user has them, NumPy arrays or tensors: rows
    `(N, D)` in their own units, for a table the columns in the order of `layout.columns`, or images
    in the layout of the run's. Predictions come out in the same units, on the CPU; every draw is
    by `seed`, and no random stream moves.

    Example:
        >>> run = load_run("runs/diabetes-bbb")                    # doctest: +SKIP
        >>> found = run.predict(x, level=0.9)                      # doctest: +SKIP
        >>> found.mean, found.lower, found.upper, found.epistemic  # doctest: +SKIP
    """

    settings: BnnSettings

    @functools.cached_property
    def predictor(self) -> Predictor:
        """The network of all rows of a regression set; where there is none, the first network.

        Raises: Refusal for a damaged one, and for a run that does not say how x was scaled.
        """
        data = self.run["data"]
        if data["kind"] == "regression":
            device = device_of(self.model) or torch.device("cpu")
            method = METHODS[self.run["arguments"]["method"]]
            found = load_predictor(method, self.settings, data, self.path, device=device)
            if found is not None:
                return found
            if data.get("x_mean") is None:
                raise Refusal(
                    f"the run in {self.path} is of an earlier version and does not say how x was scaled, so it "
                    "cannot predict new data; train it again."
                )
            _log.info(
                "%s has no network of all rows (train_bnn.py --resume --predictor trains one); the first of %d predicts, "
                "trained on the %d rows of the first split.",
                self.path,
                len(self.pairs),
                data["num_train"],
            )
        samples = self.num_samples or self.settings.run.num_samples
        return Predictor(self.model, self.guide, samples, scales_of(data, 0))

    @functools.cached_property
    def layout(self) -> BnnLayout:
        return BnnLayout(self.run["data"], self.predictor.scales)

    def predict(
        self,
        x: Values,
        *,
        num_samples: int | None = None,
        level: float = 0.9,
        seed: int = 0,
    ) -> Prediction:
        """A `RegressionPrediction` or a `ClassPrediction` of N new data.

        num_samples: draws of the weights, by default as many as for the scores of the run. level: of
        the interval of a regression. Raises: Refusal for x of another shape or kind.
        """
        if not 0 < level < 1:
            raise Refusal(f"level={level}, expected a probability between 0 and 1.")
        batches = _chunks({"x": self.layout.x(x)})
        samples = self._samples(num_samples)
        if self.layout.classes:
            return self._classes(batches, samples, seed)
        return self._regression(batches, samples, level, seed)

    def log_predictive(
        self, x: Values, y: Values, *, num_samples: int | None = None, seed: int = 0
    ) -> Tensor:
        """log p(y | x) of each datum, `(N,)`, in nats: the density in the units of y, of all targets
        together, or the log-probability of the label.

        Raises: Refusal as `predict`, and for y of another shape, or of unknown classes.
        """
        inputs = self.layout.x(x)
        batches = _chunks({"x": inputs, "y": self.layout.y(y, len(inputs))})
        with self._evaluation(seed) as predictor:
            density = pv.log_predictive(
                predictor.model,
                predictor.guide,
                batches,
                num_samples=self._samples(num_samples),
            )[1:]
        if self.layout.classes:
            return density
        return density - self.layout.scale("y_scale").log().sum()

    def evaluate(self) -> dict:
        task, run = load_task(self.settings), self.run
        self.folder.refuse_other_data(task.digest())
        ood = run["arguments"].get("ood")
        trained = Trained(
            self.pairs,
            run["num_samples"],
            self.history,
            run["train_seconds"],
            run["steps"],
            self.loss,
            num_chains=METHODS[run["arguments"]["method"]].num_chains(self.settings),
        )
        programs = [program for pair in self.pairs for program in pair]
        threads = self.settings.run.threads or 1
        with cpu_threads(threads), preserve_state(programs, training=False, seed=0):
            unknown = load_unknown(ood, task) if ood else None
            summary = score(trained, self.settings, task, unknown).summary()
        return {name: dict(entry) for name, entry in summary.items()}

    def _regression(
        self, batches: Chunks, samples: int, level: float, seed: int
    ) -> RegressionPrediction:
        def read(mixture: NormalMixture) -> tuple[Tensor, ...]:
            return (
                mixture.mean * scale + mean,
                mixture.aleatoric.sqrt() * scale,
                mixture.epistemic.sqrt() * scale,
                mixture.quantile((1 - level) / 2) * scale + mean,
                mixture.quantile((1 + level) / 2) * scale + mean,
            )

        mean, scale = self.layout.scale("y_mean"), self.layout.scale("y_scale")
        with self._evaluation(seed) as predictor:
            parts = predict_mixtures(
                predictor.model,
                predictor.guide,
                batches,
                num_samples=samples,
                read=read,
                site="y",
            )
        average, aleatoric, epistemic, lower, upper = map(torch.cat, zip(*parts[1:]))
        return RegressionPrediction(average, aleatoric, epistemic, lower, upper, level)

    def _classes(self, batches: Chunks, samples: int, seed: int) -> ClassPrediction:
        with self._evaluation(seed) as predictor:
            moments = pv.predict_moments(
                predictor.model, predictor.guide, batches, num_samples=samples, site="y"
            )
        mean, aleatoric, epistemic = moments.mean[1:], moments.aleatoric[1:], moments.epistemic[1:]
        probs = mean / mean.sum(-1, keepdim=True)
        return ClassPrediction(probs, aleatoric, epistemic, self.layout.classes)

    def _samples(self, asked: int | None) -> int:
        if asked is not None and asked < 1:
            raise Refusal(f"num_samples={asked}, expected at least one draw of the weights.")
        return self.predictor.num_samples if asked is None else asked

    @contextmanager
    def _evaluation(self, seed: int) -> Iterator[Predictor]:
        """Random streams at `seed`, restored after."""
        programs = [self.predictor.model, self.predictor.guide]
        with preserve_state(programs, training=False, seed=seed):
            yield self.predictor

    def _load(self, split: str, network: int) -> Batches | None:
        task = load_task(self.settings)
        self.folder.refuse_other_data(task.digest())
        part = {"train": task.train, "valid": task.valid, "test": task.test}[split]
        row = task.split_of(network, self.settings.run.seeds)
        if part is None:
            return None
        return Batches(
            DictDataset(**{name: value[row] for name, value in part.tensors.items()}), CHUNK
        )


def _chunks(data: dict[str, Tensor]) -> Chunks:
    """Batches of `CHUNK` rows after one of the first row alone, whose result is left out: what is
    drawn depends on the size of the first batch, and a prediction shall not depend on other rows."""
    size = len(data["x"])
    starts = range(0, size, CHUNK)
    slices = [slice(0, 1), *(slice(start, start + CHUNK) for start in starts)]
    return [{name: value[rows] for name, value in data.items()} for rows in slices]
