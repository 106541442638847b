"""Random networks of the transformers library, to compare ours with. Needs torch."""

from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagen_jax.weights.folder import open_weights
from tests.text.tiny import make_tokens


def save_random(model: Any, folder: Path, seed: int = 0) -> None:
    """Fills a torch model with random weights and saves it.

    Nothing is zero or one, so that a bias or scale left out shows.
    """
    torch = pytest.importorskip("torch")
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        values = torch.randn(parameter.shape, generator=generator)
        if "norm" in name.lower() and name.endswith("weight"):
            values = 1 + 0.3 * values
        elif parameter.ndim < 2:
            values = 0.3 * values
        elif not any(table in name for table in ("embed", "shared", "relative")):
            values = values / parameter.shape[1] ** 0.5
        if name.endswith("SelfAttention.q.weight"):  # as T5 begins: it has no scale
            values = values / model.config.d_kv**0.5
        parameter.data.copy_(values)
    model.eval().save_pretrained(folder)


def torch_states(model: Any, ids: jax.Array, mask: jax.Array, layer: int) -> np.ndarray:
    """Returns the states after a layer; -1 are those after the final norm, if any."""
    torch = pytest.importorskip("torch")
    with torch.no_grad():
        output = model(
            input_ids=torch.from_numpy(np.array(ids)).long(),
            attention_mask=torch.from_numpy(np.array(mask)).long(),
            output_hidden_states=True,
        )
    states = output.last_hidden_state if layer == -1 else output.hidden_states[layer]
    return states.numpy()


def check_equal(
    module: ModuleType,
    model: Any,
    folder: Path,
    *,
    text_model: Any = None,
    layer: int = -1,
    n: int = 20,
) -> None:
    """Saves the model, reads it with ours, and compares valid tokens.

    Args:
      module: `imagen_jax.text.bert`, `clip` or `t5`.
      model: of the transformers library; its weights are overwritten.
      folder: where to save it.
      text_model: the part that encodes text, if `model` has others.
      layer: whose states ours are; see `torch_states`.
      n: tokens.
    """
    save_random(model, folder)
    config = module.read_config(folder / "config.json")
    params = module.params_from_tensors(open_weights(folder).tensors, config)
    ids, mask = make_tokens(config.vocab_size, n)
    valid = np.asarray(mask)
    expected = torch_states(text_model or model, ids, mask, layer)[valid]
    largest = np.abs(expected).max()
    states = jax.jit(module.hidden_states, static_argnames="config")
    exact = np.asarray(states(params, ids, mask, config=config))[valid]
    np.testing.assert_allclose(exact, expected, rtol=0, atol=1e-5 * max(largest, 1))
    rounded = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    coarse = states(rounded, ids, mask, config=config)
    assert coarse.dtype == jnp.bfloat16
    error = np.asarray(coarse, np.float32)[valid] - expected
    assert np.linalg.norm(error) < 2e-2 * np.linalg.norm(expected)
    assert np.abs(error).max() < 2e-2 * largest
