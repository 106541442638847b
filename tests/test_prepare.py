import os
import subprocess
import sys

import pytest

from imagen_jax import prepare
from imagen_jax.data.sources import openmoji
from imagen_jax.data.sources.tfds import TfdsSource
from imagen_jax.errors import UserError


def run(*arguments, before=""):
    """Runs the command in a process of its own, after the statements `before`."""
    program = (
        f"import sys\n{before}\nsys.argv = ['prepare', *{arguments!r}]\n"
        "from imagen_jax import errors, prepare\n"
        "errors.run_command(prepare.main)\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120
    )


def test_the_command_draws_the_set_once(tmp_path):
    arguments = ("openmoji", "--set=default", f"--data_dir={tmp_path}", "--variants=1")
    first = run(*arguments)
    assert first.returncode == 0, first.stderr
    folder = tmp_path / "openmoji" / "default_1" / "1.0.0"
    *_, counts, attribution, last = first.stdout.splitlines()
    assert counts.startswith("pictures: train 48, held_out 192")
    assert "CC BY-SA" in attribution
    assert last == f"the set is ready: {folder}"
    assert len(TfdsSource(str(folder))) == 48
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    second = run(*arguments)
    assert second.stdout == f"the set is there already, nothing done: {folder}\n"
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_an_interrupted_run_is_redone(tmp_path, monkeypatch):
    monkeypatch.setattr(openmoji, "_DEFAULT", "fox, apple")
    compose_variant = openmoji.compose_variant

    def interrupt(pair, variant, split, size):
        if split == "held_out":
            raise KeyboardInterrupt
        return compose_variant(pair, variant, split, size)

    monkeypatch.setattr(openmoji, "compose_variant", interrupt)
    with pytest.raises(KeyboardInterrupt):
        prepare.prepare_openmoji("default", str(tmp_path), 1)
    assert not os.path.exists(tmp_path / "openmoji" / "default_1" / "1.0.0")
    monkeypatch.setattr(openmoji, "compose_variant", compose_variant)
    folder = prepare.prepare_openmoji("default", str(tmp_path), 1)
    assert len(TfdsSource(folder, "held_out")) == 24


@pytest.mark.parametrize(
    ("arguments", "before", "message"),
    [
        (("openmoji", "--set=huge"), "", "'huge'; choose one of default, core, all"),
        (("openmoji", "--variants=0"), "", "--variants is 0; it must be at least 1"),
        (
            ("openmoji",),
            "sys.modules['tensorflow_datasets'] = None",
            'pip install "imagen_jax[quickstart]"',
        ),
        (
            ("openmoji",),
            "sys.modules['resvg_py'] = None",
            'pip install "imagen_jax[quickstart]"',
        ),
        (("flowers",), "", "invalid choice: 'flowers'"),
    ],
    ids=["set", "variants", "no tfds", "no resvg", "command"],
)
def test_bad_input_is_one_sentence(arguments, before, message, tmp_path):
    data_dir = tmp_path / "data"
    result = run(*arguments, f"--data_dir={data_dir}", before=before)
    assert result.returncode == 2
    assert message in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
    assert not data_dir.exists()


def test_a_data_dir_that_is_a_file(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(UserError, match=r"--data_dir cannot be made.*name another"):
        prepare.prepare_openmoji("default", str(file))
