import socket
import sys

import numpy as np
import pytest
import safetensors.numpy

from imagen_jax.errors import UserError
from imagen_jax.weights.folder import open_weights
from imagen_jax.weights.hub import find_weights
from tests.weights.hub_server import REPOSITORY, serve

TENSORS = {"a": np.arange(1000, dtype=np.float32)}
WEIGHTS = safetensors.numpy.save(TENSORS)
FILES = {
    "config.json": b"{}",
    "spiece.model": b"pieces",
    "README.md": b"not needed",
    "flax_model.msgpack": b"not needed",
    "pytorch_model.bin": b"not needed",
    "model.safetensors": WEIGHTS,
}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache folder of this test's own, and a hub that is not there."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("IMAGEN_JAX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def hub(cache, monkeypatch):
    """The handler of a hub with `FILES`."""
    with serve(FILES) as (address, handler):
        monkeypatch.setenv("HF_ENDPOINT", address)
        yield handler


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.is_file())


def test_a_path_is_taken_as_it_is(tmp_path, cache):
    assert find_weights(str(tmp_path)) == tmp_path
    file = tmp_path / "model.safetensors"
    file.touch()
    assert find_weights(str(file)) == file


def test_fetches_what_is_needed_and_only_once(hub, cache):
    folder = find_weights(REPOSITORY)
    assert folder == cache / "someone--tiny-t5"
    assert names(folder) == ["config.json", "model.safetensors", "spiece.model"]
    assert not (folder / ".cache").exists()
    np.testing.assert_array_equal(open_weights(folder).tensors["a"], TENSORS["a"])
    num_requests = len(hub.requests)
    assert num_requests == 3
    assert find_weights(REPOSITORY) == folder
    assert len(hub.requests) == num_requests


def test_fetches_the_patterns_that_are_asked_for(hub):
    folder = find_weights(REPOSITORY, ["*.md"])
    assert names(folder) == ["README.md", "model.safetensors"]


def test_a_revision_has_a_folder_of_its_own(hub, cache):
    folder = find_weights(f"{REPOSITORY}@main")
    assert folder == cache / "someone--tiny-t5@main"
    assert "model.safetensors" in names(folder)


@pytest.mark.parametrize(
    ("published", "fetched"),
    [
        (["pytorch_model.bin", "tf_model.h5"], ["pytorch_model.bin"]),
        (
            [
                "model.safetensors.index.json",
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
                "model.fp16-00001-of-00001.safetensors",
                "pytorch_model.bin.index.json",
                "pytorch_model-00001-of-00001.bin",
            ],
            [
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
                "model.safetensors.index.json",
            ],
        ),
    ],
)
def test_fetches_one_form_of_the_weights(hub, published, fetched):
    hub.files = dict.fromkeys(published, b"weights")
    assert names(find_weights(REPOSITORY)) == fetched


def test_completes_an_interrupted_download(hub, cache):
    hub.broken.add("model.safetensors")
    with pytest.raises(UserError, match="try again, which fetches only"):
        find_weights(REPOSITORY)
    assert not (cache / "someone--tiny-t5").exists()
    hub.broken.clear()
    del hub.requests[:]
    folder = find_weights(REPOSITORY)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert hub.requests == ["model.safetensors"]  # none of the others again
    assert not (cache / "someone--tiny-t5.partial").exists()


def test_says_where_to_put_files_if_the_hub_cannot_be_reached(cache):
    with pytest.raises(UserError) as refusal:
        find_weights(REPOSITORY)
    message = str(refusal.value)
    assert "\n" not in message
    assert "could not be fetched from http://127.0.0.1:" in message
    assert "put config.json, the tokenizer's files and the weights" in message
    assert message.endswith(str(cache / "someone--tiny-t5"))
    by_hand = cache / "someone--tiny-t5"
    by_hand.mkdir(parents=True)
    assert find_weights(REPOSITORY) == by_hand


def test_a_half_download_is_not_taken_for_a_whole_one_without_the_hub(
    hub, cache, monkeypatch
):
    hub.broken.add("model.safetensors")
    with pytest.raises(UserError):
        find_weights(REPOSITORY)
    assert (cache / "someone--tiny-t5.partial" / "config.json").exists()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="could not be fetched"):
        find_weights(REPOSITORY)


def test_names_a_repository_or_revision_that_is_not_there(hub):
    with pytest.raises(UserError, match="no repository someone/else at http://127"):
        find_weights("someone/else")
    with pytest.raises(UserError, match="has no revision v9; give one"):
        find_weights(f"{REPOSITORY}@v9")


def test_refuses_a_repository_without_weights(hub):
    hub.files = {"config.json": b"{}", "tf_model.h5": b""}
    with pytest.raises(UserError, match=r"has none of model\.safetensors, "):
        find_weights(REPOSITORY)


@pytest.mark.parametrize("text", ["", "t5", "a/b/c", "/no/such/folder", "a b/c"])
def test_refuses_what_is_neither_path_nor_repository(cache, text):
    with pytest.raises(UserError, match="neither a file or folder"):
        find_weights(text)


def test_names_the_extra_when_the_package_is_missing(cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"imagen_jax\[text-hf\]"):
        find_weights(REPOSITORY)
