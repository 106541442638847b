"""Bundles, weights of encoders and checkpoints of training, damaged."""

import functools
import json
import pickle
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.numpy import save_file

from imagen_jax.bundle import load_stage, write_bundle
from imagen_jax.checkpoint import Checkpoints, restore_ema_params
from imagen_jax.weights.folder import open_weights
from tests.fuzzing import FINE, LostError, taken
from tests.fuzzing.damage import damage_bytes, damage_file, files_below, pick
from tests.tiny import tiny_stage

EMA = "0.9"


@functools.cache
def _stage() -> tuple[Any, Any]:
    """Returns a tiny stage and parameters for it, made once."""
    stage = tiny_stage("base")
    abstract = jax.eval_shape(stage.init_params, jax.random.key(0))
    params = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.5, leaf.dtype), abstract)
    return stage, params


def bundle(rng: np.random.Generator, folder: Path) -> str:
    """A bundle with a damaged file is loaded, or refused."""
    stage, params = _stage()
    write_bundle(stage, params, folder)
    if damaged := rng.random() < 0.85:
        damage_file(rng, pick(rng, files_below(folder)))
    with taken(not damaged):
        loaded, weights = load_stage(folder)
    names = [jax.tree_util.tree_structure(tree) for tree in (params, weights)]
    if loaded.config.network == stage.config.network and names[0] != names[1]:
        raise LostError("parameters are missing")
    return FINE


def weights(rng: np.random.Generator, folder: Path) -> str:
    """Weights of an encoder, as safetensors (one file or shards) or as a torch file."""
    tensors = {f"layer.{i}": np.arange(12.0, dtype=np.float32) for i in range(3)}
    kind = int(rng.integers(3))
    match kind:
        case 0:
            save_file(tensors, folder / "model.safetensors")
        case 1:
            name = "model-00001-of-00001.safetensors"
            save_file(tensors, folder / name)
            index = {"weight_map": dict.fromkeys(tensors, name)}
            path = folder / "model.safetensors.index.json"
            path.write_text(json.dumps(index))
        case 2:
            _write_torch(folder / "pytorch_model.bin", rng)
    sound = kind < 2 and rng.random() < 0.15
    if not sound:
        damage_file(rng, pick(rng, files_below(folder)))
    with taken(sound):
        opened = open_weights(folder)
        for name in opened.tensors:
            np.asarray(opened.tensors[name])
    return FINE


def _write_torch(path: Path, rng: np.random.Generator) -> None:
    """Writes a torch file of one tensor; its pickle is damaged, or asks for more."""
    data = _torch_pickle(b"layer.0", pick(rng, (12, 12, 0, 99, 255)))
    match int(rng.integers(4)):
        case 0:
            data = damage_bytes(rng, data)
        case 1:
            data = pickle.dumps({"x": pick(rng, (print, {}, [1], "a"))}, protocol=2)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/data/0", np.arange(12, dtype=np.float32).tobytes())


def _torch_pickle(name: bytes, num: int) -> bytes:
    """Returns the pickle of {name: a tensor [3, 4]} in a storage of `num` floats."""

    def text(data: bytes) -> bytes:
        return b"X" + len(data).to_bytes(4, "little") + data

    storage = text(b"storage") + b"ctorch\nFloatStorage\n" + text(b"0") + text(b"cpu")
    storage = b"(" + storage + b"K" + bytes([num]) + b"tQ"
    layout = b"K\x00K\x03K\x04\x86K\x04K\x01\x86\x89"
    hooks = b"ccollections\nOrderedDict\n)R"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + layout + hooks + b"tR"
    return b"\x80\x02}" + text(name) + tensor + b"s."


@functools.cache
def _run() -> tuple[Path, Any]:
    """Returns a folder with a run's checkpoints, and their state; made once."""
    folder = Path(tempfile.mkdtemp(prefix="run-"))
    # A file of its own has only what is large and cannot be compressed.
    kernel = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    layer = {"kernel": kernel, "bias": np.arange(4, dtype=np.float32)}
    state = {"step": np.int32(2), "ema_params": {EMA: {"layer": layer}}}
    checkpoints = Checkpoints(folder, 2)
    for step in (1, 2):  # another state, which must not be taken for the newest
        scaled = jax.tree.map(lambda leaf, step=step: leaf * (step - 1), state)
        checkpoints.save(step, jax.tree.map(jax.numpy.asarray, scaled))
    checkpoints.close()
    return folder, state


def checkpoint(rng: np.random.Generator, folder: Path) -> str:
    """A run's checkpoints, damaged: restored as they were saved, or refused."""
    made, state = _run()
    shutil.copytree(made, folder / "run")
    for _ in range(int(rng.integers(1, 3))):
        damage_file(rng, pick(rng, files_below(folder / "run")))
    if rng.random() < 0.2:
        odd = pick(rng, ("3", "x", "-1", "9" * 30, "2.partial", "003"))
        (folder / "run" / "checkpoints" / odd).mkdir(exist_ok=True)
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    abstract = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        state,
    )
    if rng.random() < 0.5:
        restored = restore_ema_params(folder / "run", EMA, abstract["ema_params"][EMA])
        expected = state["ema_params"][EMA]
    else:
        checkpoints = Checkpoints(folder / "run", 2)
        try:
            if checkpoints.latest_step() is None:
                return FINE  # a fresh start, which the loop says
            restored, expected = checkpoints.restore(abstract), state
        finally:
            checkpoints.close()
    same = jax.tree.map(lambda a, b: np.array_equal(a, b), restored, expected)
    if not all(jax.tree.leaves(same)):
        raise LostError("what was restored is not what was saved")
    return FINE
