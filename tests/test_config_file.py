"""Config files, overrides and config.json: what comes out, and what is refused."""

import functools
import json
from pathlib import Path

import pytest

from imagen_jax.config import EfficientUNetConfig, StageConfig
from imagen_jax.config_file import from_dict, load_config, read_config, to_dict
from imagen_jax.errors import UserError

CONFIGS = Path(__file__).parent.parent / "configs"
READINGS = [
    "imagen_sr256_600m.py:literal",
    "imagen_sr1024_400m.py:literal",
    "imagen_sr1024_400m.py:nearest",
]
SHIPPED = sorted(path.name for path in CONFIGS.glob("*.py")) + READINGS

FILE = """
import ml_collections


def get_config(name="small"):
    return ml_collections.ConfigDict({
        "name": name,
        "network": {"channels": 64, "channel_mults": [1, 2], "num_res_blocks": [1, 1],
                    "attention": [False, True]},
        "train": {"batch_size": 8},
    })
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "config.py"
    path.write_text(FILE)
    return str(path)


def value_of(config, key):
    return functools.reduce(getattr, key.split("."), config)


def test_there_are_shipped_configs():
    assert len(SHIPPED) >= 5 + len(READINGS)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_configs_survive_the_round_trip(name, tmp_path):
    config = load_config(str(CONFIGS / name))
    tree = to_dict(config)
    assert from_dict(tree) == config
    path = tmp_path / "config.json"
    path.write_text(json.dumps(tree))
    assert read_config(path) == config
    assert hash(read_config(path)) == hash(config)


def test_a_dict_of_the_settings_is_plain_and_complete():
    tree = to_dict(StageConfig())
    assert json.loads(json.dumps(tree)) == tree  # no tuple, no dataclass
    assert tree["network"]["channel_mults"] == [1, 2, 3, 4]
    assert tree["diffusion"]["aug_schedule"]["logsnr_max"] == 20.0
    assert tree.keys() == StageConfig.__dataclass_fields__.keys()


def test_a_file_names_only_what_differs(file):
    config = load_config(file)
    assert config.name == "small"
    assert config.network.channel_mults == (1, 2)
    assert config.network.head_dim == StageConfig().network.head_dim
    assert config.train.num_steps == StageConfig().train.num_steps


def test_an_argument_after_a_colon_goes_to_get_config(file):
    assert load_config(f"{file}:large").name == "large"
    literal = load_config(str(CONFIGS / "imagen_sr1024_400m.py:literal"))
    nearest = load_config(str(CONFIGS / "imagen_sr1024_400m.py"))
    assert (literal.network.shortcut, nearest.network.shortcut) == ("always", "changed")


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("train.batch_size=16", "train.batch_size", 16),
        ("train.num_steps=2_000", "train.num_steps", 2000),
        ("optimizer.learning_rate=3e-4", "optimizer.learning_rate", 3e-4),
        ("optimizer.learning_rate=1", "optimizer.learning_rate", 1.0),
        ("name=base", "name", "base"),
        ("name='7'", "name", "7"),
        ("data.source=tfds:a/b:train", "data.source", "tfds:a/b:train"),
        ("data.source=a=b", "data.source", "a=b"),
        ("data.source=", "data.source", ""),
        ("data.cache=true", "data.cache", True),
        ("data.cache=False", "data.cache", False),
        ("network.channel_mults=[2,4]", "network.channel_mults", (2, 4)),
        ("network.attention=(True,False)", "network.attention", (True, False)),
        ("train.ema_decays=[0.9,0.99]", "train.ema_decays", (0.9, 0.99)),
        ("diffusion.schedule.logsnr_max=10", "diffusion.schedule.logsnr_max", 10.0),
    ],
)
def test_overrides(file, override, key, value):
    got = value_of(load_config(file, [override]), key)
    assert got == value
    assert type(got) is type(value)


def test_the_last_override_counts(file):
    overrides = ["train.batch_size=16", "train.microbatches=2", "train.batch_size=32"]
    train = load_config(file, overrides).train
    assert (train.batch_size, train.microbatches) == (32, 2)


def test_overrides_do_not_reach_the_next_load(file):
    load_config(file, ["train.batch_size=16"])
    assert load_config(file).train.batch_size == 8


def test_the_kind_selects_the_network(tmp_path):
    path = tmp_path / "config.py"
    path.write_text(
        "import ml_collections\n"
        "def get_config():\n"
        "    return ml_collections.ConfigDict({'resolution': 64})\n"
    )
    config = load_config(str(path), ["network.kind=efficient_unet"])
    assert config.network == EfficientUNetConfig()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "train.batch_size",
            "override 'train.batch_size' has no value; write key=value",
        ),
        ("name.first=a", "override name.first=a: name has no fields"),
        ("networc.channels=1", "unknown config key 'networc'; did you mean 'network'?"),
        ("train.bach_size=1", "'train.bach_size'; did you mean 'batch_size'? The keys"),
        ("zzz=1", "unknown config key 'zzz'. The keys here are: name, resolution,"),
        ("train=5", "train is 5; it must be a group of keys"),
        ("network=unet", "network is 'unet'; it must be a group of keys"),
        ("network=[1]", "network is [1]; it must be a group of keys"),
        (
            "network.kind=dit",
            "network.kind is 'dit'; it must be one of ['unet', 'effic",
        ),
        ("network.kind=[1]", "network.kind is [1]; it must be one of ['unet', 'effici"),
        ("network.strides=[2,2]", "unknown config key 'network.strides'"),
        ("train.batch_size=many", "train.batch_size is 'many'; it must be of type int"),
        ("train.batch_size=8.0", "train.batch_size is 8.0; it must be of type int"),
        ("train.batch_size=True", "train.batch_size is True; it must be of type int"),
        ("train.batch_size=2**3", "train.batch_size is '2**3'; it must be of type int"),
        ("train.batch_size={[]: 1}", "is '{[]: 1}'; it must be of type int"),
        ("optimizer.eps=tiny", "optimizer.eps is 'tiny'; it must be of type float"),
        ("optimizer.eps=True", "optimizer.eps is True; it must be of type float"),
        ("data.cache=1", "data.cache is 1; it must be of type bool"),
        ("name=7", "name is 7; it must be of type str"),
        ("network.channel_mults=2", "network.channel_mults is 2; it must be a list"),
        (
            "network.channel_mults=[1,'a']",
            "channel_mults is 'a'; it must be of type int",
        ),
        (
            "diffusion.prediction=x",
            "prediction is 'x'; it must be one of ['eps', 'v', ",
        ),
        (
            "diffusion.schedule.kind=[]",
            "schedule.kind is []; it must be one of ['cosine",
        ),
        ("network.num_res_blocks=[1]", "network.num_res_blocks 1; they must match"),
    ],
)
def test_a_bad_override_is_one_sentence(file, override, message):
    with pytest.raises(UserError) as error:
        load_config(file, [override])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def get_config(:\n", "could not be run: SyntaxError"),
        ("import no_such_module\n", "could not be run: ModuleNotFoundError"),
        ("", "could not be run: AttributeError"),
        ("def get_config():\n    return {'name': 'a'}\n", "has no attribute 'to_dict'"),
        ("def get_config():\n    raise KeyError('x')\n", "could not be run: KeyError"),
    ],
)
def test_a_file_that_is_no_config_is_refused(tmp_path, text, message):
    path = tmp_path / "config.py"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        load_config(str(path))
    assert str(error.value).startswith(f"--config={path} ")
    assert message in str(error.value)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no such file; see the folder configs/"):
        load_config(f"{tmp_path}/nothing.py:literal")


def test_an_argument_that_the_file_does_not_know_is_refused():
    with pytest.raises(UserError, match="could not be run: KeyError: 'other'"):
        load_config(str(CONFIGS / "imagen_sr256_600m.py:other"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read (No such file or directory); give the workdir of a"),
        (b"{", "is not valid JSON"),
        (b"\xff\xfe\x00", "is not valid JSON"),
        (b"[]", "config is []; it must be a group of keys"),
        (b'{"unknown": 1}', "unknown config key 'unknown'"),
        (b'{"resolution": null}', "resolution is None; it must be of type int"),
    ],
)
def test_a_config_json_that_is_none_is_refused(tmp_path, content, message):
    path = tmp_path / "config.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as error:
        read_config(path)
    assert str(error.value).startswith(str(path))
    assert message in str(error.value)


def test_a_workdir_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(UserError, match="give the workdir of a training run"):
        read_config(tmp_path / "run" / "config.json")
