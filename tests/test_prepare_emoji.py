import pytest

from imagen_jax import prepare
from imagen_jax.data.sources.opening import open_source
from tests.commands.command import run
from tests.data.sources.npm_packages import serve


@pytest.fixture(autouse=True)
def registry(monkeypatch, tmp_path):
    serve(monkeypatch, tmp_path)


def test_the_command_draws_the_set_once(tmp_path, monkeypatch, capfd):
    arguments = ("emoji", f"--data_dir={tmp_path}", "--styles=noto,fluent-3d")
    arguments += ("--size=24", "--variants=2")
    status, out, _ = run(monkeypatch, capfd, prepare, *arguments)
    assert status == 0
    counts, google, lobehub, last = out.splitlines()
    assert counts == "pictures: noto 8, fluent-3d 6"
    assert "Google" in google
    assert "LobeHub" in lobehub
    text = f"index:{tmp_path}/emoji/noto+fluent-3d_24px_2/index"
    assert last == f"the set is ready: {text}"
    source = open_source(text)
    captions = [source[i].caption for i in range(len(source))]
    assert len(captions) == 14
    assert captions[0].startswith("the flag of Togo on ")
    assert captions[-1].endswith("Fluent Emoji 3D")
    status, out, _ = run(monkeypatch, capfd, prepare, *arguments)
    assert (status, out) == (0, f"the set is there already, nothing done: {text}\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--styles=noto,cubist"], "no emoji style 'cubist'; choose of openmoji, noto"),
        (
            ["--styles=noto,noto"],
            "--styles is 'noto,noto'; name one or more, each",
        ),
        (["--styles="], "there is no emoji style ''; choose of"),
        (["--size=0"], "--size is 0 and --variants 1; both must be at least 1"),
        (["--variants=0"], "--size is 256 and --variants 0; both must be at least 1"),
        (
            ["--styles=fluent-3d", "--size=512"],
            "--size is 512; the style fluent-3d is drawn at 256 pixels, so give",
        ),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, monkeypatch, capfd, arguments, message):
    arguments = ("emoji", f"--data_dir={tmp_path}/data", *arguments)
    status, _, errors = run(monkeypatch, capfd, prepare, *arguments)
    assert status == 2
    assert message in errors[-1]
    assert not (tmp_path / "data").exists()


def test_without_network_it_is_one_sentence(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9")
    arguments = ("emoji", f"--data_dir={tmp_path}/data", "--styles=noto")
    status, _, errors = run(monkeypatch, capfd, prepare, *arguments)
    assert status == 2
    assert "cannot be fetched" in errors[-1]
    assert "Traceback" not in "\n".join(errors)
