"""The page as one HTML file that needs nothing else."""

import copy
import dataclasses
import html
import json
from importlib import resources

import torch
from torch import Tensor

from pyrovae.recipes.explorer.content import Encoded, content_of, encode_test
from pyrovae.recipes.explorer.numbers import Numbers
from pyrovae.recipes.refusal import Refusal
from pyrovae.recipes.single_latent import codes_and_draws, refuse_others
from pyrovae.recipes.trained_vae import TrainedVae

LIMIT = 2_000_000
"""Bytes of a page."""
BITS = (32, 24, 20, 16)
"""Of a weight, tried in this order."""
PAGE = (
    "picture.js",
    "sliders.js",
    "planes.js",
    "map.js",
    "pointer.js",
    "walks.js",
    "drawing.js",
    "page.js",
)
"""The code of the page, in one function; later files use earlier ones."""
TOLERANCE = 1e-4
"""Largest difference of a decoded pixel, and of a mean of q(z | x), from Python's."""


@dataclasses.dataclass(frozen=True)
class Page:
    """text: the HTML file. numbers: how its tensors are written, and what that changes at most, in
    decoded test data (`decoded`) and in their codes (`encoded`)."""

    text: str
    numbers: Numbers
    decoded: float = 0.0
    encoded: float = 0.0

    @property
    def size(self) -> int:
        return len(self.text.encode())


def page_of(run: TrainedVae, *, max_data: int = 1000, limit: int = LIMIT, seed: int = 0) -> Page:
    """A page to explore a trained VAE with: sliders for z, a map of test data, decoding and
    encoding in the browser. Weights are float32, or whole numbers of 24, 20 or 16 bits (`Numbers`)
    where the page would else be larger than `limit` bytes.

    Raises: Refusal for models the page cannot compute (hierarchies, conditional models, a
    likelihood without a mean in closed form), and for those too large for it.
    """
    refuse_others(run)
    test = encode_test(run, max_data, seed)
    content = content_of(run, test, seed=seed)
    for bits in BITS:
        numbers = Numbers(bits)
        page = Page(_html(run, content, len(test.x), numbers), numbers)
        if page.size <= limit:
            break
    else:
        raise Refusal(
            f"the page would take {page.size / 1e6:.1f} MB with weights of {bits} bits, expected at most "
            f"{limit / 1e6:g}; train with smaller --hidden, or leave out test data (--max-data)."
        )
    decoded, encoded = rounding_errors(run, test, numbers)
    if max(decoded, encoded) > TOLERANCE:
        raise Refusal(
            f"weights of {bits} bits, which the page's size demands, change decoded values by {decoded:.1g} and "
            f"codes by {encoded:.1g}, expected at most {TOLERANCE:g}; train with smaller --hidden."
        )
    return dataclasses.replace(page, decoded=decoded, encoded=encoded)


def rounding_errors(run: TrainedVae, test: Encoded, numbers: Numbers) -> tuple[float, float]:
    """The largest change of decoded test codes and draws, and of test codes, where weights are
    written as `numbers`."""
    if numbers.bits == 32:
        return 0.0, 0.0
    rounded = _rounded(run, numbers)
    z = codes_and_draws(run, test.codes.mean)
    decoded = _largest(run.decode(z), rounded.decode(z))
    if not run.is_exact:
        return decoded, 0.0
    means = rounded.encode(test.x, num_draws=1).mean
    return decoded, _largest(test.codes.mean, means)


def _largest(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())


@torch.no_grad()
def _rounded(run: TrainedVae, numbers: Numbers) -> TrainedVae:
    model, guide = copy.deepcopy((run.model, run.guide))
    for program in (model, guide):
        for parameter in program.parameters():
            parameter.copy_(numbers.rounded(parameter))
    return dataclasses.replace(run, model=model, guide=guide)


def _html(run: TrainedVae, content: dict[str, object], num_data: int, numbers: Numbers) -> str:
    model, name = run.settings.model, run.run["data"]["name"]
    size = model.latent_dim[0]
    title = f"{name}: a VAE with {size} latent dim{'s' if size > 1 else ''}"
    summary = (
        f"{num_data} test data, {model.net} nets, {model.likelihood} likelihood, prior {model.prior}, guide "
        f"{model.guide}; decoded in this page from the weights of the run ({numbers.name})."
    )
    data = json.dumps(numbers.written(content), separators=(",", ":"), allow_nan=False)
    parts = {
        "title": html.escape(title),
        "summary": html.escape(summary),
        "css": _source("page.css"),
        "net": _source("net.js"),
        "page": "\n".join(map(_source, PAGE)),
        "model": data.replace("</", "<\\/"),
    }
    text = _source("page.html")
    for part, value in parts.items():
        text = text.replace("{{" + part + "}}", value)
    return text


def _source(name: str) -> str:
    return (resources.files("pyrovae.recipes.explorer") / name).read_text(encoding="utf-8")
