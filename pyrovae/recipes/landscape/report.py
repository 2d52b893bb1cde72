"""What the landscape writes: one file a family, tables of all, and a figure."""

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure

import pyrovae.plots as plots
from pyrovae.recipes.landscape.families import FAMILIES
from pyrovae.recipes.landscape.family import Budget, Family, Images, Table
from pyrovae.recipes.results import find_asked, read_arrays, write_arrays, write_result
from pyrovae.recipes.tables import markdown_table

SHOWN = 10
"""Draws of each family in the figure."""
SAMPLES = 1000
"""Draws of each family that are stored."""
AGAINST: Mapping[Table, str] = {"binary": "vae", "real": "vae-normal-learned"}
"""The family that the others are compared with."""
HEADS: Mapping[Table, str] = {
    "binary": "test log p(x), nats",
    "real": "test bits per dimension",
}


def find(family: Family, folder: Path, asked: Mapping[str, object]) -> dict | None:
    """The result of a family, if it was finished. Raises Refusal for one of other settings."""
    return find_asked(folder / f"{family.name}.json", asked, folder.parent)


def fit_or_find(
    family: Family, images: Images, budget: Budget, folder: Path, asked: Mapping[str, object]
) -> dict:
    """The result of a family: read if it was finished, else made anew."""
    if (found := find(family, folder, asked)) is not None:
        return found
    path, arrays = folder / f"{family.name}.json", folder / f"{family.name}.npz"
    start = time.perf_counter()
    fitted = family.fit(images, budget)
    trained = time.perf_counter() - start
    scores = fitted.score(images.test)
    samples = images.pixels(fitted.sample(SAMPLES))
    result: dict[str, object] = {
        "asked": asked,
        "table": family.table,
        "log_px": scores.mean - images.log_units(),
        "se": scores.se,
        "kind": scores.kind,
        "parameters": fitted.num_parameters,
        "seconds": trained,
        "seconds_scoring": time.perf_counter() - start - trained,
        "num_data": len(scores.log_px),
        "note": family.note,
    }
    if family.table == "real":
        nats = images.features * math.log(2)
        result |= {
            "bits_per_dim": -(scores.mean - images.log_units()) / nats,
            "bits_se": scores.se / nats,
        }
    folder.mkdir(parents=True, exist_ok=True)
    values = (scores.log_px.double() - images.log_units()).numpy()
    write_arrays(arrays, {"log_px": values, "samples": samples.numpy()})
    write_result(path, result, files=[arrays])
    return result


def gains(results: Mapping[str, dict], folder: Path) -> dict[str, tuple[float, float]]:
    """Paired differences of log p(x) over the family that others are compared with, on the test data
    that both have scored."""
    found = {}
    for name, result in results.items():
        base = AGAINST[result["table"]]
        if name == base or base not in results:
            continue
        ours, theirs = (
            torch.from_numpy(read_arrays(folder / f"{one}.npz")["log_px"]) for one in (name, base)
        )
        count = min(len(ours), len(theirs))
        difference = ours[:count] - theirs[:count]
        found[name] = (difference.mean().item(), difference.std().item() / count**0.5)
    return found


def markdown(results: Mapping[str, dict], folder: Path) -> str:
    """A table for each kind of data."""
    compared, text = gains(results, folder), ""
    for table, head in HEADS.items():
        rows = []
        for name, one in results.items():
            if one["table"] != table:
                continue
            value, se = (
                (one["log_px"], one["se"])
                if table == "binary"
                else (one["bits_per_dim"], one["bits_se"])
            )
            gain = "{:+.2f} ± {:.2f}".format(*compared[name]) if name in compared else ""
            rows.append(
                [
                    name,
                    f"{value:.3f} ± {se:.3f}" if table == "real" else f"{value:.2f} ± {se:.2f}",
                    one["kind"],
                    gain,
                    f"{one['num_data']:,}",
                    f"{one['parameters']:,}",
                    f"{one['seconds']:.0f}",
                    one["note"],
                ]
            )
        if rows:
            columns = ["family", head, "kind", f"nats over {AGAINST[table]}, paired", "test data"]
            text += markdown_table([*columns, "parameters", "seconds", "note"], rows) + "\n"
    return text


def figures(
    results: Mapping[str, dict], folder: Path, data: Mapping[Table, Images]
) -> dict[str, Figure]:
    """The sheet of each table."""
    found = {}
    for table, images in data.items():
        entries = []
        for name, one in results.items():
            if one["table"] == table:
                value, se = ("log_px", "se") if table == "binary" else ("bits_per_dim", "bits_se")
                samples = read_arrays(folder / f"{name}.npz")["samples"][:SHOWN]
                entries.append(
                    plots.Entry(
                        name,
                        samples,
                        one[value],
                        one[se],
                        one["kind"],
                        FAMILIES[name].abilities(),
                    )
                )
        rows = images.pixels(images.test[:SHOWN])
        found[f"landscape_{table}"] = plots.landscape(entries, rows, unit=HEADS[table])
    return found


def settings_of(budget: Budget, digest: str, seed: int, binarize: str) -> dict[str, object]:
    """What a family's result depends on."""
    return {
        "budget": dataclasses.asdict(budget) | {"hidden": list(budget.hidden)},
        "data": digest,
        "seed": seed,
        "binarize": binarize,
    }


def chosen(names: Sequence[str] | None) -> list[Family]:
    """Families by name, all by default."""
    return [FAMILIES[name] for name in names or FAMILIES]
