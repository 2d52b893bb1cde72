"""See variational inference: families that meet densities in two dims, both directions of the KL,
a posterior that data make out of a prior, and all methods on one curve.

    python scripts/vi_pictures.py --out runs/vi

Writes families.png, directions.png, weights.png, with --bands methods on a curve with a gap beside
HMC (bands.png, some minutes), and vi.json: KLs and evidence in nats.
"""

import dataclasses
from pathlib import Path

import command_line
import torch
from matplotlib.figure import Figure
from progress import progress_bar, say
from script_context import script_context

import pyrovae.plots as plots
from pyrovae.recipes import bounds
from pyrovae.recipes.bnn_figures import bands
from pyrovae.recipes.bnn_methods import METHODS
from pyrovae.recipes.bnn_settings import BnnSettings
from pyrovae.recipes.bounds import Count, OutFolder, Positive, Seed
from pyrovae.recipes.name_list import several
from pyrovae.recipes.results import write_result
from pyrovae.recipes.tables import markdown_table
from pyrovae.recipes.variational.families import FAMILIES, Direction, Fit, density, fit_family
from pyrovae.recipes.variational.targets import TARGETS
from pyrovae.recipes.variational.weights import TRUTH, Belief, believe, line_data

REACH = 3.2
WEIGHTS_REACH = 2.0
POINTS = 121


@dataclasses.dataclass(frozen=True)
class Pictures:
    epochs: Count = 60
    """Of 25 steps."""
    lr: Positive = 0.05
    num_data: tuple[Count, ...] = (1, 3, 10)
    """Data behind each row of weights.png; a row of the prior comes first."""
    bands: bool = False
    """Also train the methods of --methods on a curve with a gap."""
    methods: str = "bbb,radial,mc-dropout,ensemble,swag,laplace,sghmc,hmc"
    """For --bands: names of train_bnn.py, joined by commas."""
    seed: Seed = 0
    out: OutFolder = Path("runs/vi")
    """The folder to write to."""

    def __post_init__(self) -> None:
        bounds.check(self)
        several("--methods", self.methods, METHODS)


def main(p: Pictures) -> dict:
    torch.manual_seed(p.seed)
    fits: dict[tuple[str, str, Direction], Fit] = {}
    cases = [
        *((target, family, "reverse") for target in TARGETS for family in FAMILIES),
        *(
            (target, family, "forward")
            for target in TARGETS
            for family in ("mean field", "full rank")
        ),
    ]
    for target, family, direction in progress_bar(cases, desc="families", unit="fit"):
        fits[target, family, direction] = fit_family(
            TARGETS[target], FAMILIES[family], direction=direction, epochs=p.epochs, lr=p.lr
        )
    x, y = line_data(max(p.num_data), p.seed)
    beliefs = {
        count: believe(x[:count], y[:count], epochs=p.epochs)
        for count in progress_bar(p.num_data, desc="weights", unit="fit")
    }
    figures = {
        "families": families(fits),
        "directions": directions(fits),
        "weights": weights(beliefs),
    }
    if p.bands:
        chosen = [METHODS[name] for name in several("--methods", p.methods, METHODS)]
        figures["bands"] = bands(chosen, BnnSettings())
    plots.save(figures, p.out)
    found = results(fits, beliefs)
    write_result(p.out / "vi.json", found)
    say(f"{table(fits)}\n{evidence(beliefs)}\nwritten to {p.out}: vi.json, {', '.join(figures)}")
    return found


def families(fits: dict[tuple[str, str, Direction], Fit]) -> Figure:
    rows = [[panel(fits, target, family, "reverse") for family in FAMILIES] for target in TARGETS]
    return plots.variational_panels(rows, reach=REACH, title="The ELBO: KL(q || p), nats")


def directions(fits: dict[tuple[str, str, Direction], Fit]) -> Figure:
    rows = [
        [
            panel(fits, target, family, direction)
            for family in ("mean field", "full rank")
            for direction in ("reverse", "forward")
        ]
        for target in TARGETS
    ]
    title = "Reverse KL(q || p) finds a mode, forward KL(p || q) covers all"
    return plots.variational_panels(rows, reach=REACH, title=title)


def panel(
    fits: dict[tuple[str, str, Direction], Fit], target: str, family: str, direction: Direction
) -> plots.Fitted:
    fit = fits[target, family, direction]
    kl, name = (
        (fit.reverse[0], "KL(q||p)") if direction == "reverse" else (fit.forward[0], "KL(p||q)")
    )
    return plots.Fitted(
        f"{family}: {name} = {kl:.2f}",
        density(TARGETS[target](), REACH, POINTS),
        density(fit.family(), REACH, POINTS),
        fit.path,
    )


def weights(beliefs: dict[int, Belief]) -> Figure:
    line = torch.linspace(-WEIGHTS_REACH, WEIGHTS_REACH, POINTS)
    points = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1)
    prior = torch.distributions.Normal(0.0, 1.0).log_prob(points).sum(-1).exp()
    first = torch.randn(12, 2)
    empty = torch.empty(0)
    rows = [plots.Update("no data", torch.ones_like(prior), prior, {}, empty, empty, first)]
    for count, belief in beliefs.items():
        exact = belief.exact.density(points)
        families = {name: found.density(points) for name, found in belief.families.items()}
        draws = torch.distributions.MultivariateNormal(*belief.exact).sample(torch.Size([12]))
        x, y = belief.x.squeeze(1), belief.y.squeeze(1)
        ratio = exact / prior
        rows.append(
            plots.Update(f"N = {count}", ratio / ratio.max(), exact, families, x, y, draws)
        )
    title = "Posterior = prior x likelihood / evidence, for the weights of a line"
    return plots.weight_beliefs(rows, reach=WEIGHTS_REACH, truth=TRUTH, title=title)


def results(
    fits: dict[tuple[str, str, Direction], Fit], beliefs: dict[int, Belief]
) -> dict[str, object]:
    return {
        "fits": [
            {
                "target": target,
                "family": family,
                "minimised": direction,
                "kl_q_p": fit.reverse[0],
                "kl_q_p_se": fit.reverse[1],
                "kl_p_q": fit.forward[0],
                "kl_p_q_se": fit.forward[1],
            }
            for (target, family, direction), fit in fits.items()
        ],
        "weights": [
            {"num_data": count, "evidence": belief.evidence, "elbo": belief.elbos}
            for count, belief in beliefs.items()
        ],
    }


def table(fits: dict[tuple[str, str, Direction], Fit]) -> str:
    return markdown_table(
        ["target", "family", "minimised", "KL(q || p), nats", "KL(p || q), nats"],
        [
            [
                target,
                family,
                "KL(q || p)" if direction == "reverse" else "KL(p || q)",
                *(f"{mean:.3f} ± {se:.3f}" for mean, se in (fit.reverse, fit.forward)),
            ]
            for (target, family, direction), fit in fits.items()
        ],
    )


def evidence(beliefs: dict[int, Belief]) -> str:
    names = list(next(iter(beliefs.values())).elbos)
    return markdown_table(
        ["N", "log p(y given x), nats, exact", *(f"ELBO, {name}" for name in names)],
        [
            [str(count), f"{one.evidence:.3f}", *(f"{one.elbos[name]:.3f}" for name in names)]
            for count, one in beliefs.items()
        ],
    )


if __name__ == "__main__":
    with script_context():
        main(command_line.parse(Pictures, __doc__))
