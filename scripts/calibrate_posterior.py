"""Are posteriors right? Simulation-based calibration of four of them on a linear regression.

    python scripts/calibrate_posterior.py --out runs/calibration

Two columns of x are correlated, so that the posterior of their weights is too. Simulates data sets
from the model and infers all of them at once: in closed form, by HMC, and by variational inference
with a full-rank and a mean-field normal. Ranks of the true weights among posterior draws are
uniform for the first three; mean-field is too narrow. Writes calibration.json, calibration.md,
ranks.png and ecdf.png in some minutes. `--compare-loop M` also fits M of the data sets one after
another and says how much longer all of them would have taken.
"""

import time

import command_line
import pyro
import torch
from calibrate_posterior_methods import GUIDES, METHODS, WEIGHTS, Study, inputs, loss_of, train
from progress import progress_bar, say
from script_context import script_context
from torch import Tensor

import pyrovae as pv
import pyrovae.plots as plots
from pyrovae.bnn.guides import PointEstimate
from pyrovae.prediction import SimulatedRanks, log_likelihood, simulate
from pyrovae.prediction.refits import Data, Draws, Posterior
from pyrovae.recipes.folder_lock import owned
from pyrovae.recipes.results import write_result
from pyrovae.recipes.resumed_settings import as_json
from pyrovae.recipes.tables import markdown_table, write_markdown


class Timed:
    """A posterior and the seconds that it took."""

    def __init__(self, posterior: Posterior) -> None:
        self.posterior, self.seconds = posterior, 0.0

    def __call__(self, data: Data) -> Draws:
        start = time.perf_counter()
        draws = self.posterior(data)
        self.seconds = time.perf_counter() - start
        return draws


def calibrate(s: Study, name: str, x: Tensor) -> tuple[SimulatedRanks, float]:
    """Ranks, and the seconds of all posteriors; the data sets are those of every other method."""
    pyro.set_rng_seed(s.seed + 1)
    model = loss_of(s, PointEstimate).model
    posterior = Timed(METHODS[name](s))
    ranks = pv.simulation_based_calibration(
        model,
        posterior,
        {"x": x},
        num_simulations=s.simulations,
        quantities={"log_likelihood": log_likelihood(model)},
    )
    return ranks, posterior.seconds


def seconds_of_loop(s: Study, name: str, x: Tensor) -> float:
    """Seconds of one fit, and its draws, on its own, averaged over the first data sets."""
    pyro.set_rng_seed(s.seed + 1)
    model = loss_of(s, PointEstimate).model
    data = simulate(model, {"x": x}, num_simulations=s.simulations).data
    start = time.perf_counter()
    for index in progress_bar(range(s.compare_loop), desc=f"{name}, one by one"):
        rows = {key: value[index] for key, value in data.items()}
        loss = loss_of(s, GUIDES[name])
        train(s, loss, rows)
        pv.predict(loss.model, loss.guide, rows, num_samples=s.draws, sites=[WEIGHTS])
    return (time.perf_counter() - start) / s.compare_loop


def row_of(s: Study, name: str, ranks: SimulatedRanks, seconds: float, x: Tensor) -> dict:
    p_values = ranks.p_values()
    row = {
        "posterior": name,
        "p_value": ranks.p_value(),
        "p_value_weights": p_values[WEIGHTS].min().item(),
        "p_value_log_likelihood": p_values["log_likelihood"].item(),
        "spread": [round(value, 4) for value in ranks.spread()[WEIGHTS].flatten().tolist()],
        "shift": [round(value, 4) for value in ranks.shift()[WEIGHTS].flatten().tolist()],
        "autocorrelation": ranks.autocorrelation[WEIGHTS].max().item(),
        "seconds": seconds,
        "counts": {label: counts.tolist() for label, (counts, _) in ranks.histograms().items()},
    }
    if s.compare_loop and name in GUIDES:
        alone = seconds_of_loop(s, name, x)
        row |= {"seconds_of_one": alone, "times_faster": alone * s.simulations / seconds}
    return row


def markdown(rows: list[dict], s: Study) -> str:
    head = [
        "posterior",
        "p-value, corrected",
        "of weights",
        "of log-likelihood",
        "spread",
        "seconds",
    ]
    cells = [
        [
            row["posterior"],
            *(
                f"{row[name]:.2g}"
                for name in ("p_value", "p_value_weights", "p_value_log_likelihood")
            ),
            f"{min(row['spread']):.2f} to {max(row['spread']):.2f}",
            f"{row['seconds']:.2g}",
        ]
        for row in rows
    ]
    error = (0.8 / s.simulations) ** 0.5
    text = markdown_table(head, cells) + (
        f"\n{s.simulations} simulated data sets of {s.data} rows, {s.draws} draws of each posterior. P-values of uniform "
        f"ranks, the smallest of a row: of all numbers, times their number; of the weights; of the log-likelihood. Spread: "
        f"12 Var(rank / L), 1 +- {error:.2f} if uniform, above it where the posterior is too narrow.\n"
    )
    for row in rows:
        if "times_faster" in row:
            text += (
                f"\n{row['posterior']}: all {s.simulations} fits at once took {row['seconds']:.1f} s; one on its own took "
                f"{row['seconds_of_one']:.2f} s, the mean of {s.compare_loop}; a loop over all of them, extrapolated, takes "
                f"{row['seconds_of_one'] * s.simulations:.0f} s: {row['times_faster']:.0f} times as long.\n"
            )
    return text


def main(s: Study) -> None:
    torch.set_num_threads(s.threads)
    with owned(s.out):
        _main(s)


def _main(s: Study) -> None:
    pyro.set_rng_seed(s.seed)
    x = inputs(s)
    rows, histograms, transforms = [], {}, {}
    for name in s.names():
        ranks, seconds = calibrate(s, name, x)
        say(f"{name}: {ranks}")
        rows.append(row_of(s, name, ranks, seconds, x))
        histograms |= {f"{name}\n{label}": pair for label, pair in ranks.histograms().items()}
        for label, values in ranks.transforms().items():
            transforms.setdefault(label, {})[name] = values
    write_result(s.out / "calibration.json", {"settings": as_json(s), "rows": rows})
    write_markdown(s.out / "calibration.md", markdown(rows, s))
    figures = {
        "ranks": plots.rank_histograms(histograms, most=s.columns + 1),
        "ecdf": plots.rank_ecdf(transforms),
    }
    plots.save(figures, s.out)
    say(markdown(rows, s) + f"written to {s.out}")


if __name__ == "__main__":
    with script_context():
        main(command_line.parse(Study, __doc__))
