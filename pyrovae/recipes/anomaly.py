"""How unusual each datum is to a trained VAE, by five scores, and how well they tell two sets apart."""

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

import pyrovae as pv
from pyrovae.core.log_weights import log_joint
from pyrovae.core.traces import run_guide, run_model
from pyrovae.evidence import inference_gaps
from pyrovae.metrics import aupr, auroc
from pyrovae.recipes.trained_vae import CHUNK, TrainedVae
from pyrovae.recipes.wording import share

EXPLAINED = {
    "log_px": "-log p(x): data of low density",
    "reconstruction": "reconstruction error: what the code does not explain",
    "kl": "KL of the code's posterior to the prior: codes far from the prior",
    "regret": "gain of the ELBO when q is refined for x (likelihood regret; Xiao et al. 2020, arXiv:2003.02977)",
    "typicality": "distance of log p(x) from its mean on training data (Nalisnick et al. 2019, arXiv:1906.02994)",
}
"""Names of the scores; the larger one is, the more unusual the datum."""


@dataclasses.dataclass(frozen=True)
class Scores:
    """Of N data, in nats, `(N,)` float64 on the CPU; `values` are larger for unusual data."""

    values: dict[str, Tensor]
    log_px: Tensor
    log_px_se: Tensor
    untrusted: Tensor
    """k-hat above 0.7: log p(x) is then likely too low."""


@dataclasses.dataclass(frozen=True)
class Detection:
    """How well a score tells the data of another set from the usual ones."""

    auroc: float
    auroc_se: float
    aupr: float
    aupr_se: float


def anomaly_scores(
    run: TrainedVae,
    batch: dict[str, Tensor],
    *,
    usual: float,
    num_particles: int = 1000,
    num_draws: int = 50,
    regret_steps: int = 100,
    seed: int = 0,
    progress: Callable[[int], object] | None = None,
) -> Scores:
    """All scores of new data, as `TrainedVae.batch` returns them.

    usual: mean log p(x) of training data, for `typicality`. regret_steps: gradient steps by which
    q is refined for each datum; 0 leaves the regret out. progress: as in `log_evidence`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        evidence = pv.log_evidence(
            run.model, run.guide, batch, num_particles=num_particles, progress=progress
        )
        likelihood, kl = _elbo_parts(run, batch, num_draws)
        values = {
            "log_px": -evidence.log_px,
            "reconstruction": -likelihood,
            "kl": kl,
            "typicality": (evidence.log_px - usual).abs(),
        }
        if regret_steps:
            gaps = inference_gaps(
                run.model,
                run.guide,
                batch,
                steps=regret_steps,
                num_particles=num_draws,
                log_px=evidence.log_px,
            )
            values["regret"] = gaps.amortization
    return Scores(values, evidence.log_px, evidence.se, evidence.untrusted)


def _elbo_parts(run: TrainedVae, batch: dict[str, Tensor], num: int) -> tuple[Tensor, Tensor]:
    """E_q[log p(x | z)] and E_q[log q(z | x) - log p(z)] of each datum, over `num` draws."""
    likelihoods, divergences = [], []
    with run.evaluation() as device:
        for start in range(0, len(batch["x"]), CHUNK):
            part = {name: value[start : start + CHUNK].to(device) for name, value in batch.items()}
            drawn = run_guide(run.guide, part, num)
            scored = run_model(run.model, drawn, part, num)
            prior = log_joint(scored, num, observed=False)
            likelihoods.append(log_joint(scored, num, observed=True).double().mean(0).cpu())
            divergence = log_joint(drawn, num).double() - prior.double()
            divergences.append(divergence.mean(0).cpu())
    return torch.cat(likelihoods), torch.cat(divergences)


def detection(usual: Tensor, other: Tensor, *, repeats: int = 200, seed: int = 0) -> Detection:
    """AUROC and AUPR of a score, the other set being what is looked for, with standard errors by
    the bootstrap over both sets."""
    generator = torch.Generator().manual_seed(seed)

    def resampled(values: Tensor) -> Tensor:
        return values[torch.randint(len(values), (len(values),), generator=generator)]

    pairs = [(resampled(usual), resampled(other)) for _ in range(repeats)]
    areas = torch.stack([torch.stack([auroc(*pair), aupr(*pair)]) for pair in pairs])
    errors = areas.std(0)
    return Detection(
        float(auroc(usual, other)), float(errors[0]), float(aupr(usual, other)), float(errors[1])
    )


def conclusion(found: dict[str, Detection], log_px: tuple[float, float]) -> list[str]:
    """In words what the numbers say; `log_px`: the means of the usual and of the other set."""
    lines = []
    if log_px[1] > log_px[0] or found["log_px"].auroc < 0.5:
        lines.append(
            f"The model gives the other set a higher likelihood in most cases (mean log p(x) {log_px[1]:.2f} against "
            f"{log_px[0]:.2f} nats, AUROC {found['log_px'].auroc:.3f}): log p(x) alone does not detect it "
            "(Nalisnick et al. 2019, arXiv:1810.09136)."
        )
    best = max(found, key=lambda name: found[name].auroc)
    score = found[best]
    same = [name for name, one in found.items() if one.auroc == score.auroc]
    if len(same) > 1:
        best = ", ".join(same[:-1]) + f" and {same[-1]} (equal)"
    chance = abs(score.auroc - 0.5) < 2 * score.auroc_se
    area = share(score.auroc, score.auroc_se, of="pairs", sign="+-")
    lines.append(
        "No score tells the two sets apart."
        if chance
        else f"The best score here is {best}, AUROC {area}. It was chosen by looking at the other set; expect less of it "
        "on a third one."
    )
    return lines
