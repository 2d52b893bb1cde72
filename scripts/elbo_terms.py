"""Show what each term of the ELBO does to a latent space of two dims: three models of the same
data, trained on the reconstruction alone, on the KL alone, and on both.

    python scripts/elbo_terms.py --out runs/elbo-terms

Writes elbo_terms.png and elbo_terms.json (the KL and the reconstruction of each model).
"""

import dataclasses
from pathlib import Path

import command_line
import pyro
import torch
import torch.nn as nn
from progress import say
from script_context import script_context
from torch import Tensor
from torch.distributions import kl_divergence

import pyrovae as pv
import pyrovae.plots as plots
from pyrovae.data import Batches
from pyrovae.recipes import bounds
from pyrovae.recipes.autoencoder import reconstruction_log_likelihood
from pyrovae.recipes.bounds import Count, OutFolder, Positive, Seed
from pyrovae.recipes.results import write_result
from pyrovae.recipes.tables import markdown_table
from pyrovae.recipes.vae import prepare, some_rows, stored
from pyrovae.recipes.vae_data_settings import DataSettings
from pyrovae.recipes.vae_means import codes
from pyrovae.recipes.vae_model_settings import ModelSettings
from pyrovae.recipes.vae_objective_settings import ObjectiveSettings
from pyrovae.recipes.vae_pair import build, fit_constants
from pyrovae.recipes.vae_run_settings import RunSettings
from pyrovae.recipes.vae_settings import Settings
from pyrovae.training.hooks import ProgressBar


@dataclasses.dataclass(frozen=True)
class Terms:
    dataset: str = "digits"
    """A named set (digits, mnist, fashion-mnist, kmnist, binarized-mnist) or a path, as train_vae.py
    takes it."""
    epochs: Count = 60
    batch_size: Count = 100
    lr: Positive = 1e-3
    max_data: Count = 2000
    """Test data that are drawn."""
    seed: Seed = 0
    out: OutFolder = Path("runs/elbo-terms")
    """The folder to write to."""

    def __post_init__(self) -> None:
        bounds.check(self)


class KlAlone(nn.Module):
    """KL(q(z | x) || p(z)) in nats per datum: an ELBO without its likelihood."""

    def __init__(self, model: pv.Model, guide: pv.Guide) -> None:
        super().__init__()
        self.prior, self.posterior = model.nodes["z"], guide.nodes["z"]

    def forward(self, x: Tensor, **_: Tensor) -> Tensor:
        return kl_divergence(self.posterior({"x": x}), self.prior({})).mean()


OBJECTIVES = {
    "reconstruction alone (beta = 0)": lambda model, guide: pv.ElboLoss(model, guide, beta=0.0),
    "KL alone (no likelihood)": KlAlone,
    "both: the ELBO (beta = 1)": pv.ElboLoss,
}


def main(t: Terms) -> Path:
    settings = Settings(
        data=DataSettings(dataset=t.dataset),
        model=ModelSettings(latent_dim=(2,)),
        objective=ObjectiveSettings(),
        run=RunSettings(batch_size=t.batch_size, seed=t.seed),
    )
    data = prepare(settings)
    test = some_rows(data.test, t.max_data, t.seed)
    panels, result = {}, {}
    for name, objective in OBJECTIVES.items():
        pyro.set_rng_seed(t.seed)
        model, guide = build(settings, data.shape, data.splits.levels)
        fit_constants(model, guide, stored(data), settings)
        pv.fit(
            objective(model, guide),
            data.train,
            epochs=t.epochs,
            lr=t.lr,
            hooks=[ProgressBar(name)],
        )
        model.eval(), guide.eval()
        panels[name] = _codes(guide, test)
        result[name] = _summary(model, guide, test)
    t.out.mkdir(parents=True, exist_ok=True)
    labels = test.data.tensors.get("y")
    figure = plots.latent_panels(
        panels,
        labels,
        title=f"Posterior means of {len(test.data)} test data of {data.splits.name}; circles: 1 and 2 sigma of the prior",
    )
    plots.save({"elbo_terms": figure}, t.out)
    write_result(t.out / "elbo_terms.json", {"unit": "nats", "models": result})
    rows = [
        (name, *(f"{one[key]:.2f}" for key in ("reconstruction", "kl", "mean_scale")))
        for name, one in result.items()
    ]
    head = ("trained on", "E_q log p(x given z), nats", "KL, nats", "mean scale of q")
    say(f"{markdown_table(head, rows)}\nwritten to {t.out}: elbo_terms.png, elbo_terms.json")
    return t.out


@torch.no_grad()
def _codes(guide: pv.Guide, test: Batches) -> Tensor:
    return torch.cat([codes(guide, batch)["z"] for batch in test])


@torch.no_grad()
def _summary(model: pv.Model, guide: pv.Guide, test: Batches) -> dict[str, float]:
    posteriors = [guide.nodes["z"](batch) for batch in test]
    kl = torch.cat([kl_divergence(q, model.nodes["z"]({})) for q in posteriors])
    scale = torch.cat([q.stddev for q in posteriors])
    reconstruction = reconstruction_log_likelihood(model, guide, test, torch.device("cpu"))
    return {
        "reconstruction": float(reconstruction.mean()),
        "kl": float(kl.mean()),
        "mean_scale": float(scale.mean()),
        "num_data": len(test.data),
    }


if __name__ == "__main__":
    with script_context():
        main(command_line.parse(Terms, __doc__))
