"""The experiment tracker that --track names."""

from pyrovae.recipes.refusal import Refusal
from pyrovae.training.trackers import MlflowTracker, Tracker, WandbTracker


def start_tracker(name: str, run: str) -> Tracker:
    """A new run of the tracker. Raises Refusal where its package is missing."""
    try:
        if name == "wandb":
            import wandb

            return WandbTracker(wandb.init(project="pyrovae", name=run))
        import mlflow
    except ImportError as error:
        raise Refusal(f"--track {name} needs a package: pip install {name}.") from error
    mlflow.start_run(run_name=run)
    return MlflowTracker(mlflow)
