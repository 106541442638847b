"""Where every parameter of the shipped configs lives, and what a step communicates.

    python -m tests.parallel.golden

writes both down again under tests/parallel/golden/, after a change that is meant to
change them: review the difference as one reviews code. The layouts are those of 256
devices, which nobody needs to have: a partition depends on names and shapes alone. The
collectives are counted in the compiled step of a tiny stage, and depend on the compiler
too, so they are compared under one version of JAX only.
"""

import collections
import functools
import os
import re
from pathlib import Path
from unittest import mock

import jax
from jax.sharding import AbstractMesh, PartitionSpec

FOLDER = Path(__file__).parent / "golden"
ROOT = Path(__file__).parent.parent.parent
CONFIGS = tuple(sorted(path.stem for path in (ROOT / "configs").glob("*.py")))
NUM_DEVICES = 256
MESH_SHAPES = ((8, 1, 1), (1, 8, 1), (2, 2, 2))  # data, fsdp, tensor
COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter")


def layout(config_name: str) -> str:
    """Returns a line "path shape -> partition" for every parameter of a config."""
    from imagen_jax.config_file import load_config
    from imagen_jax.parallel.mesh import AXES
    from imagen_jax.parallel.sharding import partition_spec
    from imagen_jax.stage import build_stage

    config = load_config(str(ROOT / "configs" / f"{config_name}.py"))
    sizes = [config.mesh.data, config.mesh.fsdp, config.mesh.tensor]
    sizes[sizes.index(-1)] = -NUM_DEVICES // (sizes[0] * sizes[1] * sizes[2])
    mesh = AbstractMesh(tuple(sizes), AXES)
    abstract = jax.eval_shape(build_stage(config).init_params, jax.random.key(0))
    lines = [f"mesh {dict(mesh.shape)}"]
    for keys, leaf in jax.tree_util.tree_leaves_with_path(abstract):
        path = jax.tree_util.keystr(keys, simple=True, separator="/")
        spec = partition_spec(path, leaf.shape, mesh)
        lines.append(f"{path} {leaf.shape} -> {_text(spec)}")
    return "\n".join(lines) + "\n"


def collectives(kind: str, shape: tuple[int, int, int]) -> str:
    """Returns a line with the collectives in a compiled step of a tiny stage."""
    from imagen_jax.config import MeshConfig
    from imagen_jax.parallel import sharding
    from imagen_jax.parallel.mesh import make_mesh
    from imagen_jax.stage import build_stage
    from imagen_jax.training.loop import jit_train_step, state_shardings
    from imagen_jax.training.optimizer import make_optimizer
    from imagen_jax.training.state import init_state
    from tests.tiny import tiny_batch, tiny_config

    mesh = make_mesh(MeshConfig(*shape))
    stage = build_stage(tiny_config(kind), constrain=sharding.constrain_batch)
    optimizer = make_optimizer(stage.config.optimizer, stage.config.train.num_steps)
    key = jax.random.key(0)
    with jax.set_mesh(mesh), mock.patch.object(sharding, "MIN_FSDP_SIZE", 64):
        shardings = state_shardings(stage, optimizer, mesh)
        state = jax.eval_shape(functools.partial(init_state, stage, optimizer), key)
        step_fn = jit_train_step(stage, optimizer, shardings, mesh)
        compiled = step_fn.lower(key, state, tiny_batch(stage)).compile()
    found = re.findall(rf" ({'|'.join(COLLECTIVES)})(?:-start)?\(", compiled.as_text())
    counts = collections.Counter(found)
    numbers = ", ".join(f"{name} {counts[name]}" for name in COLLECTIVES)
    return f"{kind} data {shape[0]} fsdp {shape[1]} tensor {shape[2]}: {numbers}\n"


def all_collectives() -> str:
    """Returns the version of JAX and a line per mesh shape."""
    lines = [collectives("base", shape) for shape in MESH_SHAPES]
    return f"jax {jax.__version__}\n" + "".join(lines)


def _text(spec: PartitionSpec) -> str:
    return f"({', '.join(map(str, spec))})" if len(spec) else "replicated"


def main() -> None:
    """Writes all golden files."""
    FOLDER.mkdir(exist_ok=True)
    for name in CONFIGS:
        (FOLDER / f"{name}.txt").write_text(layout(name))
    (FOLDER / "collectives.txt").write_text(all_collectives())


if __name__ == "__main__":
    os.environ["JAX_PLATFORMS"] = "cpu"
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 8)
    main()
