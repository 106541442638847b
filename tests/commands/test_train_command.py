"""The train command on the synthetic source, and each bad input it must refuse."""

import json
import os
import signal
import subprocess
import sys
import time

import jax
import ml_dtypes
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache
from safetensors.numpy import load_file, save_file

from imagen_jax import train
from imagen_jax.bundle import load_stage
from imagen_jax.config_file import read_config
from imagen_jax.data.embedding_store import Manifest, write_store
from imagen_jax.data.synthetic import SyntheticSource
from tests.commands.command import run
from tests.text.tiny_bert import CONFIG, write_folder
from tests.tiny import BASE, ONE_LEVEL, TOKENS, WIDTH

SOURCE = "synthetic:32:8"


def write_tiny_store(folder, *, encoder="tiny", width=WIDTH, captions=None):
    source = SyntheticSource(32, 8, seed=0)
    captions = captions or sorted({source[i].caption for i in range(len(source))})
    rng = np.random.default_rng(0)
    pairs = [
        (caption, rng.standard_normal((3, width)).astype(ml_dtypes.bfloat16))
        for caption in captions
    ]
    manifest = Manifest(encoder, "0" * 64, "none", width, TOKENS)
    write_store(str(folder), manifest, pairs)
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with config.py, a fitting store and three stores that do not fit."""
    folder = tmp_path_factory.mktemp("files")
    tree = {
        **BASE,
        "network": {**BASE["network"], **ONE_LEVEL["base"]},
        "data": {"source": SOURCE, "store": str(folder / "store")},
    }
    (folder / "config.py").write_text(
        "import ml_collections\n\n\ndef get_config():\n"
        f"    return ml_collections.ConfigDict({tree!r})\n"
    )
    write_tiny_store(folder / "store")
    write_tiny_store(folder / "other_encoder", encoder="t5")
    write_tiny_store(folder / "other_width", width=7)
    write_tiny_store(folder / "other_captions", captions=["a cat"])
    (folder / "a_file").write_text("")
    return folder


def test_trains_writes_and_resumes(tmp_path, monkeypatch, capfd, files):
    flags = (f"--config={files}/config.py", f"--workdir={tmp_path}/run")
    short = "--config.train.num_steps=4"
    status, out, _ = run(monkeypatch, capfd, train, *flags, short)
    assert status == 0
    assert "8 x cpu (platform cpu)" in out
    assert read_config(tmp_path / "run" / "config.json").train.num_steps == 4
    status, _, _ = run(monkeypatch, capfd, train, *flags, "--config.train.num_steps=6")
    assert status == 0
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert list((tmp_path / "run" / "logs").glob("events*"))


@pytest.fixture
def compile_cache(tmp_path):
    """An empty folder in the place of the tests' compile cache."""
    settings = {
        "jax_compilation_cache_dir": str(tmp_path / "cache"),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield tmp_path / "cache"
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def test_compile_only_leaves_the_step_that_training_takes(
    tmp_path, monkeypatch, capfd, files, compile_cache
):
    flags = (f"--config={files}/config.py", f"--workdir={tmp_path}/run")
    flags += ("--config.train.num_steps=1",)
    assert run(monkeypatch, capfd, train, *flags, "--compile_only")[0] == 0
    (kept,) = compile_cache.glob("jit_train_step-*-cache")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
    assert run(monkeypatch, capfd, train, *flags)[0] == 0
    assert list(compile_cache.glob("jit_train_step-*-cache")) == [kept]


def test_compile_only_without_a_cache_is_one_sentence(
    tmp_path, monkeypatch, capfd, files, compile_cache
):
    jax.config.update("jax_compilation_cache_dir", None)
    flags = (f"--config={files}/config.py", f"--workdir={tmp_path}/run")
    status, _, err = run(monkeypatch, capfd, train, *flags, "--compile_only")
    assert status == 2
    assert "name a folder in JAX_COMPILATION_CACHE_DIR" in err[-1]


def test_trains_with_the_encoder_inside_the_job(tmp_path, monkeypatch, capfd, files):
    """No store: captions travel as tokens, and config.json says by which encoder."""
    encoder = write_folder(tmp_path / "encoder")
    flags = [
        f"--config={files}/config.py",
        f"--workdir={tmp_path}/run",
        "--config.train.num_steps=2",
        "--config.data.store=''",
        "--config.text.on_the_fly=True",
        "--config.text.encoder=tiny_bert",
        f"--config.text.width={CONFIG.width}",
        f"--config.text.weights_path={encoder}",
    ]
    status, _, err = run(monkeypatch, capfd, train, *flags)
    assert status == 0, err
    text = read_config(tmp_path / "run" / "config.json").text
    assert len(text.weights_sha256) == 64
    assert text.tokenizer.startswith("tokenizer.json sha256:")
    tensors = load_file(encoder / "model.safetensors")
    save_file({k: v * 1.5 for k, v in tensors.items()}, encoder / "model.safetensors")
    status, _, err = run(monkeypatch, capfd, train, *flags)
    assert status == 2
    assert "another text" in err[-1]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config.networc.channels=8"], "did you mean 'network'"),
        (["--config.network.chanels=8"], "did you mean 'channels'"),
        (["--config.train.batch_size=many"], "it must be of type int"),
        (["--config.train.batch_size"], "write key=value"),
        (["--config.diffusion.prediction=x"], "one of ['eps', 'v', 'x0']"),
        (["--config.network.num_res_blocks=[1,2,3]"], "they must match"),
        (["--config.network.head_dim=5"], "must divide the width"),
        (["--config.resolution=9", "--config.network.patch_size=2"], "be a multiple"),
        (["--confg=x"], "unknown flag '--confg=x'"),
        (["--config.data.source=webdata"], "the data source is 'webdata'"),
        (["--config.data.store=nowhere"], "nowhere"),
        (["--config.data.store=''"], "data.store is '' and text.on_the_fly False"),
        (["--config.text.on_the_fly=True"], "or no store and text.on_the_fly=True"),
        (["--config.data.store={files}/other_encoder"], "t5"),
        (["--config.data.store={files}/other_width"], "width"),
        (["--config.data.store={files}/other_captions"], "embed the captions"),
        (["--platform=tpu"], "add --platform=any"),
        (["--config.mesh.data=3"], "does not make 8 devices"),
        (["--config.train.batch_size=12"], "must be a multiple of mesh.data x mesh.fs"),
        (["--config={files}/nothing.py"], "no such file"),
        (["--workdir={files}/a_file/sub"], "cannot be written"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, monkeypatch, capfd, files, flags, message):
    """Exit status 2, the last line says it, no traceback, nothing half-made."""
    workdir = tmp_path / "run"
    arguments = [f"--config={files}/config.py", f"--workdir={workdir}"]
    arguments += [flag.format(files=files) for flag in flags]
    status, _, err = run(monkeypatch, capfd, train, *arguments)
    assert status == 2
    assert err[-1].startswith("error: ")
    assert message in err[-1]
    assert not any("Traceback" in line for line in err)
    assert not (workdir / "checkpoints").exists() or not any(
        (workdir / "checkpoints").iterdir()
    )


def test_a_workdir_of_another_model_stays_as_it_was(
    tmp_path, monkeypatch, capfd, files
):
    flags = (f"--config={files}/config.py", f"--workdir={tmp_path}")
    run(monkeypatch, capfd, train, *flags, "--config.train.num_steps=2")
    before = sorted((p, p.stat().st_mtime_ns) for p in tmp_path.rglob("*"))
    status, _, err = run(
        monkeypatch, capfd, train, *flags, "--config.network.channels=16"
    )
    assert status == 2
    assert "another network" in err[-1]
    assert "use another --workdir" in err[-1]
    assert sorted((p, p.stat().st_mtime_ns) for p in tmp_path.rglob("*")) == before


@pytest.mark.slow
def test_killed_at_a_random_step_and_resumed_equals_uninterrupted(tmp_path, files):
    """SIGKILL between checkpoints loses nothing: the ends are equal bitwise."""

    def start(workdir):
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "imagen_jax.train"),
                f"--config={files}/config.py",
                f"--workdir={workdir}",
                "--config.train.num_steps=40",
                "--config.train.checkpoint_every=3",
            ],
            # One device; nothing here depends on how well it is compiled.
            env={**os.environ, "XLA_FLAGS": "--xla_backend_optimization_level=0"},
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )

    assert start(tmp_path / "whole").wait() == 0
    killed_at = int(np.random.default_rng().integers(4, 30))
    process = start(tmp_path / "killed")
    metrics = tmp_path / "killed" / "metrics.jsonl"
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and process.poll() is None:
        if metrics.exists() and len(metrics.read_text().splitlines()) >= killed_at:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, f"finished before step {killed_at}"
    assert start(tmp_path / "killed").wait() == 0

    def losses(run_dir):
        lines = (run_dir / "metrics.jsonl").read_text().splitlines()
        return [(json.loads(x)["step"], json.loads(x)["loss"]) for x in lines]

    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    killed, whole = (averages(tmp_path / name) for name in ("killed", "whole"))
    assert len(whole) > 20
    assert killed == whole


def averages(workdir):
    """Returns the exact bytes of a run's averaged parameters, by name."""
    _, params = load_stage(workdir)
    return {
        jax.tree_util.keystr(path): np.asarray(leaf).tobytes()
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
