"""A run that starts from other weights: what is loaded, what is said, what is refused.

States are filled by hand: no network is initialised here but by the train command.
"""

import hashlib
import json
import shutil

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from imagen_jax import train
from imagen_jax.averages import shapes_of
from imagen_jax.bundle import load_stage, write_bundle
from imagen_jax.bundle_folder import WEIGHTS
from imagen_jax.checkpoint import Checkpoints, write_config
from imagen_jax.config import MeshConfig
from imagen_jax.errors import UserError
from imagen_jax.parallel import sharding
from imagen_jax.parallel.mesh import make_mesh
from imagen_jax.parallel.sharding import leaf_name, tree_shardings
from imagen_jax.training.optimizer import make_optimizer
from imagen_jax.training.state import TrainState, ema_names
from imagen_jax.training.warm_start import RECORD, say_ignored, warm_start
from tests.commands.command import run
from tests.commands.test_train_command import SOURCE, write_tiny_store
from tests.hosts import ONE_HOST, TWO_HOSTS, Job, end_all, write_files
from tests.tiny import BASE, tiny_stage

SMALL = {"channel_mults": [1], "num_res_blocks": [1], "attention": [True]}
# More layers for the text, other shapes after them, and fewer attention layers.
OTHER = {**SMALL, "text_proj_width": 6, "attention": [False]}


def abstract_params(stage):
    return jax.eval_shape(stage.init_params, jax.random.key(0))


def named(params) -> dict[str, np.ndarray]:
    return {
        leaf_name(keys): np.asarray(leaf)
        for keys, leaf in jax.tree_util.tree_leaves_with_path(params)
    }


def rounded(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """As a bundle holds them."""
    kinds = (ml_dtypes.bfloat16, np.float32)
    return {name: t.astype(kinds[0]).astype(kinds[1]) for name, t in tensors.items()}


def write_workdir(stage, params, folder, step: int) -> None:
    """Writes what a run would: two averages, of which the second is another."""
    folder.mkdir()
    write_config(folder, stage.config)
    zeros = jax.tree.map(jnp.zeros_like, params)
    averages = {"0.9": params, "0.99": zeros}
    state = {"step": jnp.int32(step), "params": zeros, "ema_params": averages}
    checkpoints = Checkpoints(folder)
    checkpoints.save(step, state)
    checkpoints.close()


def fresh_state(stage, params) -> TrainState:
    """A state before the first step, split over 8 devices."""

    def init(params):
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            ema_params={
                name: jax.tree.map(jnp.copy, params)
                for name in ema_names(stage.config.train)
            },
            opt_state=make_optimizer(stage.config.optimizer, 12).init(params),
            num_skipped=jnp.zeros((), jnp.int32),
            num_skipped_in_row=jnp.zeros((), jnp.int32),
        )

    state = init(params)
    mesh = make_mesh(MeshConfig(data=4, fsdp=2))
    return jax.device_put(state, tree_shardings(state, mesh))


@pytest.fixture
def stage():
    return tiny_stage(network=SMALL)


@pytest.fixture
def state(stage, fill_params):
    """Values that no source here has."""
    return fresh_state(stage, fill_params(abstract_params(stage), 1))


@pytest.fixture
def source(stage, fill_params, tmp_path):
    """(folder of a bundle of the same network, its tensors as they come back)."""
    params = fill_params(abstract_params(stage), 2)
    write_bundle(stage, params, tmp_path / "source")
    return tmp_path / "source", rounded(named(params))


def assert_equal(got: dict, wanted: dict) -> None:
    assert got.keys() == wanted.keys()
    for name, tensor in wanted.items():
        np.testing.assert_array_equal(got[name], tensor, err_msg=name)


def test_the_weights_become_parameters_and_every_average(
    stage, state, source, tmp_path, capfd
):
    folder, tensors = source
    optimizer = jax.device_get(state.opt_state)
    started = warm_start(state, stage.config, str(folder), tmp_path)
    assert_equal(named(started.params), tensors)
    assert list(started.ema_params) == ["0.9", "0.99"]
    for average in started.ema_params.values():
        assert_equal(named(average), tensors)
    assert int(started.step) == 0
    jax.tree.map(np.testing.assert_array_equal, optimizer, started.opt_state)
    out, _ = capfd.readouterr()
    assert f"{len(tensors)} of {len(tensors)} tensors loaded" in out
    assert "none is missing, extra or of another shape" in out


@pytest.mark.parametrize("kind", ["adam", "adafactor", "muon"])
def test_a_fresh_optimizer_does_not_depend_on_the_parameters(kind, fill_params):
    """So it may be made before the weights are loaded."""
    stage = tiny_stage(network=SMALL, optimizer={"kind": kind})
    shapes = abstract_params(stage)
    rule = make_optimizer(stage.config.optimizer, 12)
    states = [rule.init(fill_params(shapes, seed)) for seed in (1, 2)]
    jax.tree.map(np.testing.assert_array_equal, *states)


def test_each_device_gets_its_part_and_each_tree_its_own_memory(
    stage, fill_params, source, tmp_path, monkeypatch
):
    monkeypatch.setattr(sharding, "MIN_FSDP_SIZE", 2**8)
    state = fresh_state(stage, fill_params(abstract_params(stage), 1))
    before = jax.tree.map(lambda leaf: leaf.sharding, state)
    started = warm_start(state, stage.config, str(source[0]), tmp_path)
    assert jax.tree.map(lambda leaf: leaf.sharding, started) == before
    assert not started.params["middle_res_0"]["conv_in"]["kernel"].is_fully_replicated
    # A step gives back the memory of its whole state: no leaf may be there twice.
    add = jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)
    after = add(started)
    assert_equal(named(after.params), {name: t + 1 for name, t in source[1].items()})


def test_no_weights_are_held_twice(stage, state, source, tmp_path):
    replaced = [state.params, *state.ema_params.values()]
    warm_start(state, stage.config, str(source[0]), tmp_path)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(replaced))


@pytest.mark.parametrize("kind", ["bundle", "workdir"])
def test_what_does_not_fit_is_named_and_stays_as_it_was(
    kind, stage, state, fill_params, tmp_path, capfd
):
    """Red if a tensor of another shape is cut to fit, or one is left out of a list."""
    other = tiny_stage(network=OTHER, diffusion={"prediction": "v"})
    theirs = fill_params(abstract_params(other), 2)
    folder = tmp_path / "source"
    if kind == "bundle":
        write_bundle(other, theirs, folder)
        theirs = rounded(named(theirs))
    else:
        write_workdir(other, theirs, folder, step=7)
        theirs = named(theirs)
    ours, shapes = named(state.params), shapes_of(state.params)
    loaded = {n for n in shapes if n in theirs and theirs[n].shape == shapes[n]}
    missing = sorted(shapes.keys() - theirs.keys())
    extra = sorted(theirs.keys() - shapes.keys())
    reshaped = sorted(shapes.keys() & theirs.keys() - loaded)
    assert all(len(names) > 1 for names in (loaded, missing, extra, reshaped))

    run_dir = tmp_path / "run"
    run_dir.mkdir()
    started = warm_start(state, stage.config, str(folder), run_dir)
    wanted = {n: theirs[n] if n in loaded else ours[n] for n in shapes}
    for params in (started.params, *started.ema_params.values()):
        assert_equal(named(params), wanted)
    record = json.loads((run_dir / RECORD).read_text())
    assert record["source"] == str(folder)
    assert record["num_loaded"] == len(loaded)
    assert (record["missing"], record["extra"]) == (missing, extra)
    assert sorted(record["reshaped"]) == reshaped
    name = reshaped[0]
    pair = {"there": list(theirs[name].shape), "here": list(shapes[name])}
    assert record["reshaped"][name] == pair
    assert record["differing_settings"] == {
        "diffusion.prediction": {"there": "v", "here": "eps"}
    }
    if kind == "workdir":
        assert (record["step"], record["ema_decay"]) == (7, "0.9")
    out, _ = capfd.readouterr()
    assert f"{len(loaded)} of {len(shapes)} tensors loaded" in out
    for name in (*missing, *extra, *reshaped):
        assert name in out
    assert "diffusion.prediction v there, eps here" in out
    assert "WARNING" not in out  # nothing is frozen in this run


def test_what_is_frozen_before_it_was_trained_is_warned_of(
    stage, state, source, tmp_path, capfd
):
    tensors = load_file(source[0] / WEIGHTS)
    del tensors["out/kernel"], tensors["stem/bias"]
    save_file(tensors, source[0] / WEIGHTS)
    frozen = tiny_stage(network=SMALL, optimizer={"freeze": "^out"})
    warm_start(state, frozen.config, str(source[0]), tmp_path)
    out, _ = capfd.readouterr()
    assert "1 WARNING: freshly initialised and frozen, so never trained: out/k" in out


def test_a_source_without_a_common_tensor_is_refused(state, stage, source, tmp_path):
    save_file({"strange/kernel": np.zeros((2, 2), np.float32)}, source[0] / WEIGHTS)
    with pytest.raises(
        UserError, match=r"strange/kernel, \.\.\. there, conditioner/.* here"
    ):
        warm_start(state, stage.config, str(source[0]), tmp_path)
    assert not (tmp_path / RECORD).exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder": "t5"}, r"text\.encoder 'tiny', not 't5'"),
        ({"max_length": 7}, r"text\.max_length 5, not 7"),
        ({"weights_sha256": "b" * 64}, r"text\.weights_sha256 'aaa.*not 'bbb"),
        ({"cleaning": "basic"}, r"text\.cleaning 'none', not 'basic'"),
    ],
)
def test_a_source_of_another_text_encoder_is_refused(
    change, message, state, fill_params, tmp_path
):
    theirs = tiny_stage(network=SMALL, text={"weights_sha256": "a" * 64})
    write_bundle(theirs, fill_params(abstract_params(theirs), 2), tmp_path / "source")
    text = {"weights_sha256": "a" * 64} | change
    ours = tiny_stage(network=SMALL, text=text)
    with pytest.raises(UserError, match=message):
        warm_start(state, ours.config, str(tmp_path / "source"), tmp_path)


def test_a_hash_that_the_source_has_not_recorded_fits(state, source, tmp_path):
    text = {"weights_sha256": "a" * 64, "tokenizer": "x sha256:0"}
    ours = tiny_stage(network=SMALL, text=text)
    warm_start(state, ours.config, str(source[0]), tmp_path)


def test_without_a_source_nothing_is_recorded(stage, state, tmp_path):
    """A run killed before its first checkpoint may be started anew without one."""
    (tmp_path / RECORD).write_text("{}")
    assert warm_start(state, stage.config, None, tmp_path) is state
    assert not (tmp_path / RECORD).exists()


def test_a_run_that_goes_on_says_what_it_began_from(tmp_path, capfd):
    say_ignored("there", tmp_path)
    assert "--init_from=there is ignored" in capfd.readouterr().out
    (tmp_path / RECORD).write_text("{}")
    say_ignored("there", tmp_path)
    assert f"what it began from is in {tmp_path / RECORD}" in capfd.readouterr().out


@pytest.fixture
def flags(tmp_path):
    """Of the train command, on a network that compiles fast."""
    store = write_tiny_store(tmp_path / "store")
    tree = {
        **BASE,
        "network": {**BASE["network"], **SMALL},
        "data": {"source": SOURCE, "store": str(store)},
    }
    (tmp_path / "config.py").write_text(
        "import ml_collections\n\n\ndef get_config():\n"
        f"    return ml_collections.ConfigDict({tree!r})\n"
    )
    return [
        f"--config={tmp_path}/config.py",
        f"--workdir={tmp_path}/run",
        "--config.train.num_steps=2",
    ]


@pytest.mark.slow
def test_the_command_trains_the_rest_of_the_weights(
    tmp_path, monkeypatch, capfd, flags, source
):
    flags += [f"--init_from={source[0]}", "--freeze=^(down|middle|up)"]
    status, out, err = run(monkeypatch, capfd, train, *flags)
    assert status == 0, err
    assert f"warm start from {source[0]}: {len(source[1])} of {len(source[1])}" in out
    digest = hashlib.sha256((source[0] / WEIGHTS).read_bytes()).hexdigest()
    record = (tmp_path / "run" / RECORD).read_text()
    assert json.loads(record)["weights_sha256"] == digest
    trained = named(load_stage(tmp_path / "run")[1])
    for name, tensor in source[1].items():
        frozen = name.startswith(("down", "middle", "up"))
        assert np.array_equal(trained[name], tensor) == frozen, name

    # The source may be gone by the time the run is started again.
    shutil.rmtree(source[0])
    status, out, err = run(monkeypatch, capfd, train, *flags)
    assert status == 0, err
    assert f"--init_from={source[0]} is ignored" in out
    assert (tmp_path / "run" / RECORD).read_text() == record


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (["--init_from={tmp}/nowhere"], "nowhere/config.json cannot be read"),
        (["--init_from={tmp}/untrained"], "has no checkpoints; train it first"),
        (["--init_from={tmp}/cut"], "is not a complete safetensors file"),
        (["--init_from={tmp}/other_text"], "text.encoder 'other', not 'tiny'"),
        (["--freeze=nothing_like_it"], "matches none of them. Give another"),
        (["--freeze=/"], "so nothing would be trained. Give another"),
        (["--freeze=("], "optimizer.freeze is '(', not a regular expression"),
        (["--freeze=7"], "optimizer.freeze is '7' and is searched for"),
    ],
)
def test_bad_input_is_one_sentence(
    own, message, tmp_path, monkeypatch, capfd, flags, source
):
    config = (source[0] / "config.json").read_text()
    for name in ("untrained", "cut", "other_text"):
        shutil.copytree(source[0], tmp_path / name)
    (tmp_path / "untrained" / WEIGHTS).unlink()
    (tmp_path / "cut" / WEIGHTS).write_bytes(b"x" * 100)
    text = config.replace('"encoder": "tiny"', '"encoder": "other"')
    (tmp_path / "other_text" / "config.json").write_text(text)
    flags += [flag.format(tmp=tmp_path) for flag in own]
    status, _, err = run(monkeypatch, capfd, train, *flags)
    assert status == 2
    assert err[-1].startswith("error: ")
    assert message in err[-1]
    assert not any("Traceback" in line for line in err)
    left = {path.name for path in (tmp_path / "run").rglob("*")}
    assert left <= {"checkpoints"}  # an empty folder: nothing half-made


@pytest.mark.slow
def test_two_processes_start_from_one_source(tmp_path):
    """Without learning, the first checkpoint shows what was loaded, wherever it is."""
    write_files(tmp_path)
    one_step = ("--config.train.num_steps=1", "--config.train.preview_every=0")
    first = Job(tmp_path, tmp_path / "first")
    first.wait(first.start(1, (*ONE_HOST, *one_step)))
    still = (*TWO_HOSTS, *one_step, "--config.optimizer.learning_rate=0.0")
    second = Job(tmp_path, tmp_path / "second")
    source = f"--init_from={tmp_path}/first"
    second.wait(second.start(2, (*still, source, "--config.seed=1")))
    theirs, ours = first.state(), second.state()
    averages = [name for name in theirs if name.startswith("['ema_params']['0.9']")]
    assert len(averages) > 20
    for name in averages:
        np.testing.assert_allclose(ours[name], theirs[name], atol=1e-7, err_msg=name)
        parameter = name.replace("['ema_params']['0.9']", "['params']")
        np.testing.assert_array_equal(ours[parameter], theirs[name], err_msg=name)

    third = Job(tmp_path, tmp_path / "third")
    shutil.copytree(tmp_path / "first", tmp_path / "copy")
    (tmp_path / "copy" / "checkpoints" / "1").rename(
        tmp_path / "copy" / "checkpoints" / "2"
    )
    own = (source, f"--init_from={tmp_path}/copy")
    processes = third.start(2, still, own_flags=own)
    try:
        assert [process.wait(200) for process in processes] == [2, 2]
    finally:
        end_all(processes)
    lines = third.log(0).read_text().splitlines()
    assert any("process 1: --init_from=" in line for line in lines)
    assert any("holds other weights here than for process 0" in line for line in lines)
