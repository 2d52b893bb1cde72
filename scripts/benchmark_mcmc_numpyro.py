"""The posteriors of `benchmark_mcmc.py` in NumPyro; used if NumPyro is installed."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.infer import MCMC, NUTS


def eight_schools(y: jax.Array, s: jax.Array) -> None:
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfCauchy(5.0))
    with numpyro.plate("schools", len(y)):
        z = numpyro.sample("z", dist.Normal(0.0, 1.0))
        numpyro.sample("y", dist.Normal(mu + tau * z, s), obs=y)


def logistic(x: jax.Array, y: jax.Array) -> None:
    w = numpyro.sample("w", dist.Normal(jnp.zeros(x.shape[1]), 1.0).to_event(1))
    b = numpyro.sample("b", dist.Normal(0.0, 5.0))
    with numpyro.plate("data", len(x)):
        numpyro.sample("y", dist.Bernoulli(logits=x @ w + b), obs=y)


def hierarchical(x: jax.Array, group: jax.Array, y: jax.Array) -> None:
    mean = numpyro.sample("mean", dist.Normal(jnp.zeros(2), 5.0).to_event(1))
    spread = numpyro.sample("spread", dist.HalfNormal(jnp.ones(2)).to_event(1))
    noise = numpyro.sample("noise", dist.HalfNormal(1.0))
    with numpyro.plate("groups", 20):
        z = numpyro.sample("z", dist.Normal(jnp.zeros(2), 1.0).to_event(1))
    effect = (mean + spread * z)[group]
    with numpyro.plate("data", len(x)):
        numpyro.sample("y", dist.Normal(effect[:, 0] + effect[:, 1] * x, noise), obs=y)


def funnel() -> None:
    v = numpyro.sample("v", dist.Normal(0.0, 3.0))
    numpyro.sample("x", dist.Normal(jnp.zeros(9), jnp.exp(0.5 * v)).to_event(1))


def bnn(x: jax.Array, y: jax.Array) -> None:
    w1 = numpyro.sample("w1", dist.Normal(jnp.zeros((1, 50)), 1.0).to_event(2))
    b1 = numpyro.sample("b1", dist.Normal(jnp.zeros(50), 1.0).to_event(1))
    w2 = numpyro.sample("w2", dist.Normal(jnp.zeros(50), 50**-0.5).to_event(1))
    b2 = numpyro.sample("b2", dist.Normal(0.0, 1.0))
    with numpyro.plate("data", len(x)):
        numpyro.sample("y", dist.Normal(jnp.tanh(x @ w1 + b1) @ w2 + b2, 0.1), obs=y)


MODELS = {
    "schools": eight_schools,
    "logistic": logistic,
    "hierarchical": hierarchical,
    "funnel": funnel,
    "bnn": bnn,
}


def numpyro_nuts(
    name: str, batch: dict[str, np.ndarray], chains: int, warmup: int, samples: int, method: str
) -> Callable[[int], dict[str, np.ndarray]]:
    """Draws `(chain, draw, *shape)` by a seed. The first call compiles."""
    mcmc = MCMC(
        NUTS(MODELS[name]),
        num_warmup=warmup,
        num_samples=samples,
        num_chains=chains,
        chain_method=method,
        progress_bar=False,
    )
    data = {key: jnp.asarray(value) for key, value in batch.items()}

    def run(seed: int) -> dict[str, np.ndarray]:
        mcmc.run(jax.random.PRNGKey(seed), **data)
        return jax.tree.map(np.asarray, mcmc.get_samples(group_by_chain=True))

    return run
