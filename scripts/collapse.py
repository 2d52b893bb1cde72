"""Compare six remedies for posterior collapse of a VAE on the digits.

The decoder is autoregressive (each pixel given the ones before it and z), so that it can ignore z.
Test log p(x) measures the quality of a model; the KL and its two parts, the mutual information
between data and z and KL(q(z) || p(z)), measure the use of z. Finished rows are kept in --out; run
again, the script continues where it stopped. Writes collapse.md, collapse.csv and figures, in
about two minutes on one core.
"""

import dataclasses
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import command_line
import pyro
import torch
from progress import evidence_bar, progress_bar, say
from script_context import script_context

import pyrovae as pv
import pyrovae.plots as plots
from pyrovae.data import load_digits
from pyrovae.heads import AutoregressiveBernoulliHead, BernoulliHead, NormalHead
from pyrovae.losses import CapacityLoss, Lagging, unwrap
from pyrovae.nets import MLP
from pyrovae.priors import StandardNormal
from pyrovae.recipes import bounds
from pyrovae.recipes.bounds import Count, FromZero, NotNegative, OutFolder, Positive, Seed, Threads
from pyrovae.recipes.folder_lock import owned
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.results import find_result, write_result
from pyrovae.recipes.resumed_settings import as_json
from pyrovae.recipes.tables import markdown_table, write_csv, write_markdown
from pyrovae.training.hooks import EarlyStopping, ProgressBar

X = 64


@dataclasses.dataclass(frozen=True)
class Study:
    epochs: Count = 200
    """Epochs of each row; the weights with the best validation ELBO are evaluated."""
    latent_dim: Count = 10
    hidden: tuple[Count, ...] = (200, 200)
    warmup: FromZero = 100
    """Epochs over which beta (KL warm-up) and the capacity rise from 0."""
    free_bits: NotNegative = 4.0
    """Nats per datum."""
    capacity: NotNegative = 4.0
    """Nats per datum."""
    gamma: NotNegative = 10.0
    guide_steps: Count = 5
    """Steps of the guide for each step of the model, during the first half of training."""
    batch_size: Count = 100
    lr: Positive = 2e-3
    particles: Count = 1000
    """K, the number of importance samples of log p(x)."""
    draws: Count = 10
    """Samples of z for each test datum in the decomposition of the KL."""
    seed: Seed = 0
    threads: Threads = 1
    out: OutFolder = Path("runs/collapse")

    def __post_init__(self) -> None:
        bounds.check(self)


Pair = tuple[pv.Model, pv.Guide]


def pair(s: Study, decoder: torch.nn.Module) -> Pair:
    model = pv.Model(z=StandardNormal(s.latent_dim), x=pv.Node(decoder, "z"))
    return model, pv.Guide(z=pv.Node(NormalHead(MLP(X, s.hidden, 2 * s.latent_dim)), "x"))


def strong(s: Study) -> Pair:
    return pair(s, AutoregressiveBernoulliHead(X, s.latent_dim, s.hidden))


def weak(s: Study) -> Pair:
    return pair(s, BernoulliHead(MLP(s.latent_dim, s.hidden, X)))


def warmed(s: Study, steps: int, stop: float) -> pv.LinearWarmup:
    return pv.LinearWarmup(max(1, s.warmup * steps), stop=stop)


REMEDIES: dict[str, Callable[[Study, int], torch.nn.Module]] = {
    "none": lambda s, steps: pv.ElboLoss(*strong(s)),
    "KL warm-up": lambda s, steps: pv.ElboLoss(*strong(s), beta=warmed(s, steps, 1.0)),
    "free bits": lambda s, steps: pv.ElboLoss(*strong(s), free_bits=s.free_bits),
    "weaker decoder": lambda s, steps: pv.ElboLoss(*weak(s)),
    "lagging guide": lambda s, steps: Lagging(
        pv.ElboLoss(*strong(s)), guide_steps=s.guide_steps, stop_after=s.epochs * steps // 2
    ),
    "capacity": lambda s, steps: CapacityLoss(
        *strong(s), capacity=warmed(s, steps, s.capacity), gamma=s.gamma
    ),
}
"""The loss of each row, from the settings and the number of steps per epoch."""
RISING = ("KL warm-up", "capacity")
"""Rows with another objective in the first `warmup` epochs, which early stopping ignores."""

COLUMNS = {
    "remedy": "remedy",
    "log_px": "test log p(x)",
    "log_px_se": "s.e.",
    "gain": "gain over none",
    "gain_se": "s.e.",
    "elbo": "ELBO",
    "kl": "KL",
    "active_units": "active units",
    "mutual_information": "mutual information",
    "mutual_information_se": "s.e.",
    "marginal_kl": "marginal KL",
    "marginal_kl_se": "s.e.",
    "warned": "CollapseWarning",
}


def row_of(remedy: str, s: Study) -> dict[str, object]:
    """Train and evaluate one row; `log_px_each` is log p(x) of each test datum."""
    start = time.perf_counter()
    pyro.set_rng_seed(s.seed)
    train, valid, test = load_digits().batches("threshold", batch_size=s.batch_size, flatten=True)
    loss = REMEDIES[remedy](s, len(train))
    best = EarlyStopping(
        s.out / f"{_file(remedy)}.safetensors",
        patience=s.epochs,
        start=s.warmup if remedy in RISING and s.warmup < s.epochs else 0,
    )
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always", pv.CollapseWarning)
        history = pv.fit(
            loss, train, epochs=s.epochs, valid=valid, lr=s.lr, hooks=[best, ProgressBar()]
        )
    model, guide = unwrap(loss).model, unwrap(loss).guide
    torch.manual_seed(s.seed)
    with evidence_bar(test, s.particles) as bar:
        evidence = pv.log_evidence(
            model, guide, test, num_particles=s.particles, progress=bar.update
        )
    parts = pv.elbo_surgery(model, guide, test, num_draws=s.draws)
    elbos = history["valid_elbo"][best.start :]
    return {
        "remedy": remedy,
        "log_px": evidence.mean,
        "log_px_se": evidence.mean_se,
        "elbo": evidence.elbo.mean().item(),
        "khat_above_0_7": int(evidence.untrusted.sum()),
        "kl": parts.kl,
        "kl_se": parts.kl_se,
        "active_units": parts.active_units,
        "mutual_information": parts.mutual_information,
        "mutual_information_se": parts.mutual_information_se,
        "marginal_kl": parts.marginal_kl,
        "marginal_kl_se": parts.marginal_kl_se,
        "num_data": parts.num_data,
        "warned": any(issubclass(one.category, pv.CollapseWarning) for one in seen),
        "best_epoch": best.start + 1 + elbos.index(max(elbos)),
        "last_kl": history[-1]["valid_kl"],
        "seconds": time.perf_counter() - start,
        "log_px_each": evidence.log_px.tolist(),
    }


def _file(remedy: str) -> str:
    return remedy.replace(" ", "-")


def finished(path: Path, s: Study) -> dict[str, object] | None:
    """The row of an earlier run in `path`, if any. Raises Refusal if it had other settings."""
    old, new = find_result(path), as_json(s)
    if old is None:
        return None
    changed = [
        f"--{name.replace('_', '-')} was {old['settings'][name]}, is {new[name]}"
        for name in new
        if name not in ("out", "threads") and old["settings"].get(name) != new[name]
    ]
    if changed:
        raise Refusal(
            f"{path} was written with other settings ({'; '.join(changed)}); choose another --out."
        )
    return old["row"]


def with_gains(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """The rows with their gain in log p(x) over the first row, and its standard error over paired
    differences."""
    each = [torch.tensor(row["log_px_each"]) for row in rows]
    gains = [values - each[0] for values in each]
    return [
        {name: value for name, value in row.items() if name != "log_px_each"}
        | {"gain": gain.mean().item(), "gain_se": (gain.std() / len(gain) ** 0.5).item()}
        for row, gain in zip(rows, gains)
    ]


def markdown(rows: list[dict[str, object]]) -> str:
    def text(value: object) -> str:
        if isinstance(value, bool):
            return "yes" if value else "no"
        return f"{value:.2f}" if isinstance(value, float) else str(value)

    cells = [[text(row[name]) for name in COLUMNS] for row in rows]
    return markdown_table(list(COLUMNS.values()), cells, rule=" --- ")


def main(s: Study) -> None:
    torch.set_num_threads(s.threads)
    with owned(s.out):
        _main(s)


def _main(s: Study) -> None:
    paths = {remedy: s.out / f"{_file(remedy)}.json" for remedy in REMEDIES}
    rows = {remedy: finished(path, s) for remedy, path in paths.items()}
    for remedy in progress_bar(
        [remedy for remedy, row in rows.items() if row is None], desc="rows"
    ):
        rows[remedy] = row_of(remedy, s)
        content = {"settings": as_json(s), "row": rows[remedy]}
        write_result(paths[remedy], content)
    table = with_gains(list(rows.values()))
    write_csv(s.out / "collapse.csv", table)
    note = (
        f"\n{table[0]['num_data']} test digits, nats per datum; log p(x) from K = {s.particles} particles; the mutual "
        f"information is at most log N = {torch.tensor(float(table[0]['num_data'])).log().item():.2f}.\n"
    )
    write_markdown(s.out / "collapse.md", markdown(table) + note)
    columns = {name: [row[name] for row in table] for name in table[0]}
    plots.save(
        {
            "log_px": plots.scores(
                columns["remedy"],
                columns["log_px"],
                columns["log_px_se"],
                unit="test log p(x), nats per datum",
            ),
            "kl": plots.kl_parts(
                columns["remedy"], columns["mutual_information"], columns["marginal_kl"]
            ),
        },
        s.out,
    )
    say(markdown(table) + note + f"written to {s.out}")


if __name__ == "__main__":
    with script_context():
        main(command_line.parse(Study, __doc__))
