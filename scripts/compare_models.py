"""Compare trained VAEs datum by datum: paired differences of log p(x) on the same test data.

    python scripts/compare_models.py runs/A runs/B [runs/C ...] --out comparison

The runs must have been trained on the same data and score the same observations: pixels drawn in
the same way, probabilities or densities alike. Paired differences have a smaller standard error
than the difference of two means, since easy data are easy for all models. Writes comparison.csv
(a row a datum), comparison.json and a picture.
"""

import dataclasses
import itertools
from pathlib import Path
from typing import Annotated

import command_line
import torch
import tyro
from matplotlib.figure import Figure
from progress import evidence_bar, say
from script_context import script_context
from torch import Tensor

import pyrovae as pv
import pyrovae.plots as plots
from pyrovae.evidence import Evidence
from pyrovae.recipes import bounds
from pyrovae.recipes.bounds import Count, OutFolder, Seed
from pyrovae.recipes.paired_comparison import Difference, observation, refuse_other_observations
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.results import write_result
from pyrovae.recipes.tables import markdown_table, write_csv
from pyrovae.recipes.trained_vae import TrainedVae
from pyrovae.recipes.vae import some_rows


@dataclasses.dataclass(frozen=True)
class Comparison:
    folders: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """The folders of two or more runs of train_vae.py."""
    out: OutFolder = Path("comparison")
    """The folder to write to."""
    num_particles: Count = 1000
    """K of log p(x)."""
    max_data: Count = 1000
    """At most so many test data, chosen at random; the same for all runs."""
    seed: Seed = 0
    device: str = "auto"
    """auto (CUDA where there is one), cpu, cuda, cuda:1, ..."""

    def __post_init__(self) -> None:
        bounds.check(self)
        if len(self.folders) < 2 or len(set(self.folders)) < len(self.folders):
            raise Refusal(
                "there is nothing to compare; expected two or more different folders of runs."
            )


def main(s: Comparison) -> Path:
    runs = {str(folder): pv.load_run(folder, device=s.device) for folder in s.folders}
    for name, run in runs.items():
        if not isinstance(run, TrainedVae):
            raise Refusal(
                f"{name} holds no run of train_vae.py; compare_bnn.py compares Bayesian neural networks."
            )
        if run.settings.model.guide == "point":
            raise Refusal(f"{name} holds an autoencoder, which has no log p(x) to compare.")
    refuse_other_observations(runs)
    evidence = {name: _evidence(s, name, run) for name, run in runs.items()}
    differences = {
        (a, b): Difference.of(evidence[a], evidence[b]) for a, b in itertools.combinations(runs, 2)
    }
    s.out.mkdir(parents=True, exist_ok=True)
    columns = {
        f"{kind}_{name}": value
        for name, one in evidence.items()
        for kind, value in _columns(one).items()
    }
    rows = range(len(next(iter(columns.values()))))
    write_csv(
        s.out / "comparison.csv",
        [
            {"row": row, **{name: value[row].item() for name, value in columns.items()}}
            for row in rows
        ],
    )
    result = {
        "unit": "nats",
        "num_particles": s.num_particles,
        "num_data": len(rows),
        "observation": observation(next(iter(runs.values()))),
        "runs": {name: _summary(one) for name, one in evidence.items()},
        "differences": [
            {"first": a, "second": b, **dataclasses.asdict(one)}
            for (a, b), one in differences.items()
        ],
    }
    write_result(s.out / "comparison.json", result, files=[s.out / "comparison.csv"])
    plots.save({"comparison": _figure(evidence, differences)}, s.out)
    say(
        f"{_means(evidence)}\n{_table(differences)}\nwritten to {s.out}: comparison.csv, comparison.json, comparison.png"
    )
    return s.out


def _evidence(s: Comparison, name: str, run: TrainedVae) -> Evidence:
    rows = some_rows(run.data("test"), s.max_data, s.seed)
    torch.manual_seed(s.seed)
    with evidence_bar(rows, s.num_particles, desc=name) as bar:
        return pv.log_evidence(
            run.model, run.guide, rows, num_particles=s.num_particles, progress=bar.update
        )


def _columns(evidence: Evidence) -> dict[str, Tensor]:
    return {"log_px": evidence.log_px, "se": evidence.se, "untrusted": evidence.untrusted.int()}


def _summary(evidence: Evidence) -> dict[str, float]:
    return {
        "log_px": evidence.mean,
        "se": evidence.mean_se,
        "untrusted": int(evidence.untrusted.sum()),
    }


def _means(evidence: dict[str, Evidence]) -> str:
    rows = [
        (name, f"{one.mean:.3f} ± {one.mean_se:.3f}", int(one.untrusted.sum()))
        for name, one in evidence.items()
    ]
    return markdown_table(("run", "log p(x), nats", "k-hat > 0.7"), rows)


def _table(differences: dict[tuple[str, str], Difference]) -> str:
    rows = [
        (a, b, f"{one.mean:+.3f} ± {one.se:.3f}", f"{one.first_wins:.1%}", one.verdict(a, b))
        for (a, b), one in differences.items()
    ]
    return markdown_table(("A", "B", "A - B, nats, paired", "A higher on", "so"), rows)


def _figure(
    evidence: dict[str, Evidence], differences: dict[tuple[str, str], Difference]
) -> Figure:
    panels = {
        f"{Path(a).name}\n- {Path(b).name}": {"test data": evidence[a].log_px - evidence[b].log_px}
        for a, b in differences
    }
    title = "Paired differences of log p(x)"
    return plots.score_histograms(panels, zero="no difference", title=title)


if __name__ == "__main__":
    with script_context():
        main(command_line.parse(Comparison, __doc__))
