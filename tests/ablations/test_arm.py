"""Training an arm: what arms share, and that sharing changes nothing."""

import json

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from imagen_jax.ablations import arm
from tests.text.tiny_bert import CONFIG, write_folder
from tests.tiny import ONE_LEVEL, tiny_config


@pytest.fixture
def config_of(tmp_path):
    """Returns a function (seed, **changes) -> a config whose text is encoded here."""
    text = {
        "encoder": "tiny_bert",
        "width": CONFIG.width,
        "max_length": 8,
        "weights_path": str(write_folder(tmp_path / "encoder")),
        "on_the_fly": True,
    }

    def make(seed, **changes):
        train = {"num_steps": 3, "checkpoint_every": 3}
        return tiny_config(
            network=ONE_LEVEL["base"],
            text=text,
            data={"source": "synthetic:16:16"},
            seed=seed,
            **{"train": train, **changes},
        )

    return make


@pytest.fixture(autouse=True)
def nothing_shared():
    arm._last_program.clear()
    yield
    arm._last_program.clear()


def losses(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [entry["loss"] for entry in map(json.loads, lines) if "loss" in entry]


def test_arms_of_two_seeds_share_a_program_and_run_as_each_alone(config_of, tmp_path):
    for seed in (0, 1):
        arm.train_arm(config_of(seed), tmp_path / f"shared_{seed}")
        (program,) = arm._last_program.values()
        assert program.step_fn._cache_size() == 1
    arm._last_program.clear()
    arm.train_arm(config_of(1), tmp_path / "alone")
    alone = losses(tmp_path / "alone")
    assert len(alone) == 3
    assert losses(tmp_path / "shared_1") == alone
    assert losses(tmp_path / "shared_0") != alone


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": {"learning_rate": 0.1}},
        {"train": {"num_steps": 4, "checkpoint_every": 4}},
        {"resolution": 16},
    ],
)
def test_another_config_is_another_program(config_of, changes):
    assert arm._without_run(config_of(0)) == arm._without_run(config_of(1))
    assert arm._without_run(config_of(0)) != arm._without_run(config_of(0, **changes))


@pytest.mark.slow
def test_compiled_apart_is_what_training_takes(config_of, tmp_path, monkeypatch):
    """Another process leaves the step, this one finds it."""
    cache = tmp_path / "cache"
    settings = {
        "jax_compilation_cache_dir": str(cache),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    for name, value in settings.items():
        monkeypatch.setenv(name.upper(), str(value))  # for the other process
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    monkeypatch.setattr(arm, "COMPILE_APART", 3)
    apart = []
    monkeypatch.setattr(
        arm,
        "compile_apart",
        lambda config, compile_apart=arm.compile_apart: apart.append(
            (compile_apart(config), *cache.glob("jit_train_step-*-cache"))
        ),
    )
    try:
        for seed in (0, 1):
            arm.train_arm(config_of(seed), tmp_path / str(seed))
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
    ((_, kept),) = apart
    assert list(cache.glob("jit_train_step-*-cache")) == [kept]
