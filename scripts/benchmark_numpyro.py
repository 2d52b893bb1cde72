"""The VAE of `benchmark.py` as a NumPyro program with a jitted step; used if NumPyro is
installed."""

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.infer import SVI, RenyiELBO, Trace_ELBO


def _layer(name: str, x: jax.Array, size: int) -> jax.Array:
    bound = x.shape[-1] ** -0.5
    initial = lambda key, shape: jax.random.uniform(key, shape, minval=-bound, maxval=bound)  # noqa: E731
    weight = numpyro.param(f"{name}.weight", lambda key: initial(key, (x.shape[-1], size)))
    return x @ weight + numpyro.param(f"{name}.bias", lambda key: initial(key, (size,)))


def _pair(x: int, h: int, z: int) -> tuple[Callable, Callable]:
    def model(x_: jax.Array) -> None:
        with numpyro.plate("data", x_.shape[0]):
            latent = numpyro.sample("z", dist.Normal(0, 1).expand([z]).to_event(1))
            logits = _layer("d1", jnp.tanh(_layer("d0", latent, h)), x)
            numpyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x_)

    def guide(x_: jax.Array) -> None:
        loc, log_scale = jnp.split(_layer("e1", jnp.tanh(_layer("e0", x_, h)), 2 * z), 2, -1)
        with numpyro.plate("data", x_.shape[0]):
            numpyro.sample("z", dist.Normal(loc, jnp.exp(log_scale)).to_event(1))

    return model, guide


def numpyro_step(
    x: int, h: int, z: int, particles: int, batch_size: int
) -> tuple[Callable[[np.ndarray], object], float]:
    """A training step, and the seconds of its compilation."""
    elbo = Trace_ELBO() if particles == 1 else RenyiELBO(alpha=0, num_particles=particles)
    svi = SVI(*_pair(x, h, z), numpyro.optim.Adam(1e-3), elbo)
    state = svi.init(jax.random.PRNGKey(0), jnp.zeros((batch_size, x)))
    update = jax.jit(svi.update)
    start = time.perf_counter()
    state, value = update(state, jnp.zeros((batch_size, x)))
    value.block_until_ready()
    compiling = time.perf_counter() - start

    def step(batch: np.ndarray) -> object:
        nonlocal state
        state, value = update(state, batch)
        return value.block_until_ready()

    return step, compiling


def numpyro_evidence(
    x: int, h: int, z: int, particles: int, rows: int
) -> tuple[Callable[[np.ndarray], object], float]:
    """A jitted estimate of log p(x), with `rows` particles times data in one pass, and the seconds
    of its compilation."""
    model, guide = _pair(x, h, z)
    sample = jnp.zeros((max(1, rows // 250), x))
    svi = SVI(model, guide, numpyro.optim.Adam(1e-3), Trace_ELBO())
    params = svi.get_params(svi.init(jax.random.PRNGKey(0), sample))
    seeded, substituted = numpyro.handlers.seed, numpyro.handlers.substitute

    def log_weight(key: jax.Array, data: jax.Array) -> jax.Array:
        """`(B,)` for one particle."""
        q = numpyro.handlers.trace(seeded(substituted(guide, data=params), key)).get_trace(data)
        latent = {"z": q["z"]["value"]}
        p = numpyro.handlers.trace(
            seeded(substituted(model, data={**params, **latent}), key)
        ).get_trace(data)
        log_q = q["z"]["fn"].log_prob(latent["z"])
        return p["z"]["fn"].log_prob(latent["z"]) + p["x"]["fn"].log_prob(data) - log_q

    @jax.jit
    def chunk(key: jax.Array, data: jax.Array) -> jax.Array:
        return jax.vmap(log_weight, (0, None))(jax.random.split(key, 250), data)

    start = time.perf_counter()
    chunk(jax.random.PRNGKey(0), sample).block_until_ready()
    compiling = time.perf_counter() - start

    def evaluate(data: np.ndarray) -> object:
        parts = [
            chunk(key, data) for key in jax.random.split(jax.random.PRNGKey(1), particles // 250)
        ]
        return (
            jax.nn.logsumexp(jnp.concatenate(parts), 0) - jnp.log(particles)
        ).block_until_ready()

    return evaluate, compiling
