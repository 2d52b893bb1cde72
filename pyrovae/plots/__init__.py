"""Pictures of autoencoders and of predictions: plain tensors in, `matplotlib.figure.Figure` out.

Nothing here calls pyplot, reads or writes matplotlib's global settings, or opens a window: a
figure is an object that the caller saves (`save`), shows in a notebook (its last value on a line),
or edits (`figure.axes`). `import pyrovae` does not import this package; `import pyrovae.plots`
does.

| picture | of | shape |
|---|---|---|
| `curves` | a training history | mapping of series |
| `image_grid`, `samples` | images, draws from the model | (n, C, H, W) or (n, H, W) |
| `reconstructions` | images above their reconstructions | twice (n, C, H, W) |
| `interpolation` | decoded paths between latents (`interpolate`, `interpolate_spherical`) | (rows, steps, C, H, W) |
| `manifold` | a decoded plane of the prior (`prior_grid`) | (n * n, C, H, W) |
| `latent_panels` | two latent dims of several models | panels of (N, 2) |
| `latent_scatter` | two latent coordinates and the prior's circles | (N, D) |
| `posterior_ellipses`, `posterior_densities` | q(z given x) of single data against the prior | (N, 2), (N, D) |
| `scores` | several runs with error bars | (n,) |
| `paired_scores` | several runs and their paired gains, a row of panels for each group that compares | `Score`s |
| `kl_per_dim` | nats used by each latent dimension | (D,) |
| `kl_parts` | mutual information and marginal KL of several runs | (n,) |
| `gradient_variance` | the noise of gradient estimators in the course of training | panels of series (T,) |
| `regression_bands` | predicted curves with what is not known and what is noise | panels of `Bands` (G,) |
| `predicted_observed`, `residuals`, `coverage` | real predictions against what was observed | panels of `Predictions` (N,) |
| `predictive_checks` | statistics of replicated data against those of the data | panels of (K,), () |
| `rank_histograms`, `rank_ecdf` | simulation-based calibration, with bands | panels of (bins,), (R,) |
| `reliability_diagram` | accuracy against confidence | panels of (bins,) |
| `entropy_histograms` | how sure of known and of unknown data | panels of (N,), (M,) |
| `score_histograms` | scores of one or two data sets | panels of sets (N,) |
| `variational_panels` | a family on its target in two dims | rows of `Fitted` |
| `weight_beliefs` | prior, likelihood and posterior of two weights | `Update`s |
| `landscape` | model families: draws, scores, abilities | `Entry`s |
| `line_panels` | several methods in a grid of panels, with bands | rows of panels of `Line`s |
| `comparison` | several methods against an angle, a number of data, ... | `Line`s (T,) |
"""

from pyrovae.plots.bands import Bands, regression_bands
from pyrovae.plots.comparison import Line, comparison
from pyrovae.plots.curves import curves
from pyrovae.plots.entropies import entropy_histograms
from pyrovae.plots.gains import Score, paired_scores
from pyrovae.plots.images import image_grid, reconstructions, samples
from pyrovae.plots.interpolation import interpolate, interpolate_spherical, interpolation
from pyrovae.plots.landscape import Entry, landscape
from pyrovae.plots.latent_panels import latent_panels
from pyrovae.plots.latents import kl_per_dim, latent_scatter
from pyrovae.plots.line_panels import line_panels
from pyrovae.plots.manifold import manifold, prior_grid
from pyrovae.plots.panels import kl_parts
from pyrovae.plots.posteriors import posterior_densities, posterior_ellipses
from pyrovae.plots.predictions import Predictions, coverage, predicted_observed, residuals
from pyrovae.plots.predictive_checks import predictive_checks
from pyrovae.plots.ranks import rank_ecdf, rank_histograms
from pyrovae.plots.reliability import reliability_diagram
from pyrovae.plots.saving import save
from pyrovae.plots.score_histograms import score_histograms
from pyrovae.plots.scores import scores
from pyrovae.plots.variance import gradient_variance
from pyrovae.plots.variational import Fitted, variational_panels
from pyrovae.plots.weight_beliefs import Update, weight_beliefs

__all__ = [
    "Bands",
    "Entry",
    "Fitted",
    "Line",
    "Predictions",
    "Score",
    "Update",
    "comparison",
    "coverage",
    "curves",
    "entropy_histograms",
    "gradient_variance",
    "image_grid",
    "interpolate",
    "interpolate_spherical",
    "interpolation",
    "kl_parts",
    "kl_per_dim",
    "landscape",
    "latent_panels",
    "latent_scatter",
    "line_panels",
    "manifold",
    "paired_scores",
    "posterior_densities",
    "posterior_ellipses",
    "predicted_observed",
    "predictive_checks",
    "prior_grid",
    "rank_ecdf",
    "rank_histograms",
    "reconstructions",
    "regression_bands",
    "reliability_diagram",
    "residuals",
    "samples",
    "save",
    "score_histograms",
    "scores",
    "variational_panels",
    "weight_beliefs",
]
