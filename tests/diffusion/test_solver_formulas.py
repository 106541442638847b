"""Solvers of higher order against their papers' formulas, written out in float64.

The papers' notation: lambda = half the log-SNR, x the noisy picture, m the predicted
x0. Given the x0 of every level, each formula moves the same noise down the same grid.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagen_jax.diffusion.heun import MOST_CHURN, S_CHURN
from imagen_jax.diffusion.samplers import sample_fn
from imagen_jax.interfaces import Prediction

SHAPE = (1, 2, 3, 1)
RNG = np.random.default_rng(0)
LOGSNRS = np.array([-8.0, -3.0, -1.5, 0.7, 1.0, 4.0, 9.0])  # uneven on purpose
NUM_STEPS = len(LOGSNRS) - 1
X0S = RNG.uniform(-1, 1, (NUM_STEPS, *SHAPE))
NOISES = RNG.standard_normal((NUM_STEPS, *SHAPE))
Z_1 = RNG.standard_normal(SHAPE)
ALPHA = np.sqrt(1 / (1 + np.exp(-LOGSNRS)))
SIGMA = np.sqrt(1 / (1 + np.exp(LOGSNRS)))
LAMBDA = 0.5 * LOGSNRS


def visited(kind, stochasticity=0.0):
    """Returns the z of the first evaluation of each step.

    x0 does not depend on z, so that only the solver's own formula is compared.
    """
    seen = []

    def predict(z, logsnr, index):
        seen.append(np.float64(z))
        x0 = jnp.asarray(X0S[index], jnp.float32)
        return Prediction(x0, z)

    with jax.disable_jit():
        sample_fn(kind)(
            predict,
            jnp.asarray(Z_1, jnp.float32),
            jnp.asarray(LOGSNRS, jnp.float32),
            lambda index: jnp.asarray(NOISES[index], jnp.float32),
            stochasticity,
        )
    return seen[::2] if kind == "heun" else seen


def dpmpp(x, i, noise=None):
    """DPM-Solver++ 2M from level i to i + 1; with noise its SDE form."""
    h = LAMBDA[i + 1] - LAMBDA[i]
    data = X0S[i]
    if i > 0:
        r_0 = (LAMBDA[i] - LAMBDA[i - 1]) / h
        data = data + (X0S[i] - X0S[i - 1]) / (2 * r_0)
    ratio = SIGMA[i + 1] / SIGMA[i]
    if noise is None:
        return ratio * x - ALPHA[i + 1] * np.expm1(-h) * data
    kept = ratio * np.exp(-h) * x - ALPHA[i + 1] * np.expm1(-2 * h) * data
    return kept + SIGMA[i + 1] * np.sqrt(-np.expm1(-2 * h)) * noise


@pytest.mark.parametrize("stochasticity", [0.0, 1.0])
def test_dpmpp_2m(stochasticity):
    wanted = [Z_1]
    for i in range(NUM_STEPS - 1):
        wanted.append(dpmpp(wanted[-1], i, NOISES[i] if stochasticity else None))
    seen = visited("dpmpp_2m", stochasticity)
    np.testing.assert_allclose(seen, wanted, rtol=1e-4, atol=2e-5)


def correct(x, i):
    """UniC from level i to i + 1 with B(h) = e^h - 1, x0 at i + 1 known."""
    h = LAMBDA[i + 1] - LAMBDA[i]
    phi_1 = np.expm1(-h)
    differences = [X0S[i + 1] - X0S[i]]
    weights = [0.5]
    if i > 0:
        r = np.array([(LAMBDA[i - 1] - LAMBDA[i]) / h, 1.0])
        phi_2 = phi_1 / -h - 1
        phi_3 = phi_2 / -h - 0.5
        system = np.stack([np.ones(2), r])
        weights = np.linalg.solve(system, np.array([phi_2, 2 * phi_3]) / phi_1)
        differences = [(X0S[i - 1] - X0S[i]) / r[0], *differences]
    data = X0S[i] + sum(w * d for w, d in zip(weights, differences, strict=True))
    return SIGMA[i + 1] / SIGMA[i] * x - ALPHA[i + 1] * phi_1 * data


def test_unipc():
    corrected, wanted = Z_1, [Z_1]
    for i in range(NUM_STEPS - 1):
        wanted.append(dpmpp(corrected, i))
        corrected = correct(corrected, i)
    np.testing.assert_allclose(visited("unipc"), wanted, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("stochasticity", [0.0, 0.02, 0.5])  # off, churn, its limit
def test_heun_in_the_papers_variables(stochasticity):
    """EDM's algorithm 2 in x = z / alpha and sigma / alpha, with its line numbers."""
    churn = min(stochasticity * S_CHURN / NUM_STEPS, MOST_CHURN)
    t = SIGMA / ALPHA
    x, wanted = Z_1 / ALPHA[0], []
    for i in range(NUM_STEPS):
        t_hat = t[i] * (1 + (churn if i else 0.0))  # 5
        x_hat = x + np.sqrt(t_hat**2 - t[i] ** 2) * NOISES[i]  # 6
        wanted.append(x_hat / np.sqrt(1 + t_hat**2))  # z, variance preserving
        if i == NUM_STEPS - 1:
            break
        d = (x_hat - X0S[i]) / t_hat  # 7
        euler = x_hat + (t[i + 1] - t_hat) * d  # 8
        d_prime = (euler - X0S[i + 1]) / t[i + 1]  # 10
        x = x_hat + (t[i + 1] - t_hat) * (d + d_prime) / 2  # 11
    np.testing.assert_allclose(
        visited("heun", stochasticity), wanted, rtol=2e-4, atol=2e-4
    )
