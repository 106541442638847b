"""The command: its flags, its address, and what it says when it is open to others."""

import contextlib
import socket

import pytest

from imagen_jax.app import __main__ as app
from imagen_jax.app import serving
from imagen_jax.app.serving import is_local
from tests.cascades import write_cascade_files
from tests.commands.command import run


@pytest.fixture(scope="module")
def files(tmp_path_factory, fill_params):
    return write_cascade_files(tmp_path_factory.mktemp("files"), fill_params)


@pytest.fixture
def served(monkeypatch):
    """What would be served; the server ends at once."""
    made = []
    for name in ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED"):
        monkeypatch.setenv(name, "")  # what the command sets is undone

    class Server:
        def run(self, sockets):
            made.append(sockets[0].getsockname())

    monkeypatch.setattr(serving, "make_app", lambda studio, credit: (studio, credit))
    monkeypatch.setattr(
        serving, "make_server", lambda *app: made.append(app) or Server()
    )
    return made


def test_it_loads_and_listens_on_this_machine_only(monkeypatch, capfd, files, served):
    flags = [f"--workdirs={files}/base,{files}/sr", "--port=0", "--steps=4, 2,4"]
    flags += ["--queue_limit=5", "--num_pictures=7", "--batch_size=3", "--in_turn"]
    status, said, err = run(monkeypatch, capfd, app, *flags)
    assert status == 0, err
    (studio, credit), (host, port) = served
    assert host == "127.0.0.1"
    assert said == f"serving at http://127.0.0.1:{port}\n"
    assert studio.limits.steps == (2, 4)
    assert (studio.limits.num_pictures, studio.queue.limit) == (7, 5)
    assert studio.model.names == ("base", "sr16")
    assert credit == ""
    loads = [loaded.load_params for loaded in studio.model.stages]
    assert all(load() is not load() for load in loads)  # anew at each turn
    assert not studio.queue._worker.is_alive()


def test_another_host_is_said_to_be_open(monkeypatch, capfd, files, served):
    flags = [f"--bundle={files}/base", "--port=0", "--host=0.0.0.0"]
    status, said, _ = run(monkeypatch, capfd, app, *flags)
    assert status == 0
    lines = said.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("--host=0.0.0.0 opens this to the network")
    assert "no login" in lines[1]


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("", False),
        ("192.168.1.7", False),
        ("example.org", False),
    ],
)
def test_only_loopback_addresses_are_local(host, expected):
    assert is_local(host) == expected


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--queue_limit=-1"], "--queue_limit=-1; it must be from 0 to 1000"),
        (["--queue_limit=1001"], "--queue_limit=1001"),
        (["--num_pictures=0"], "both must be at least 1"),
        (["--batch_size=0"], "both must be at least 1"),
        (["--steps=many"], "--steps=many must be whole numbers from 1"),
        (["--steps=0"], "--steps=0 must be whole numbers from 1"),
        (["--steps=10,"], "--steps=10, must be"),
        (["--steps=²"], "must be whole numbers"),
        (["--steps=200000", "--port=0"], "take fewer steps"),
        (["--port=70000"], "--port is 70000"),
        (["--host=203.0.113.1"], "cannot listen on 203.0.113.1"),
        (["--port=0", "--workdirs={files}/sr"], "needs a low-res picture"),
        (["--port=0", "--workdirs={files}/sr,{files}/base"], "needs a low-res picture"),
        (["--port=0", "--workdirs={files}/nowhere"], "nowhere"),
    ],
)
def test_bad_input_is_one_sentence(monkeypatch, capfd, files, served, flags, message):
    flags = [flag.format(files=files) for flag in flags]
    if not any(flag.startswith("--workdirs") for flag in flags):
        flags.append(f"--workdirs={files}/base,{files}/sr")
    status, _, err = run(monkeypatch, capfd, app, *flags)
    assert status == 2
    assert err[-1].startswith("error: ")
    assert message in err[-1]
    assert not any("Traceback" in line for line in err)
    assert served == []


def test_a_port_in_use_is_said_before_the_weights_are_read(monkeypatch, capfd, served):
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        flags = ["--bundle=nowhere", f"--port={port}"]
        status, _, err = run(monkeypatch, capfd, app, *flags)
    assert status == 2
    assert f"cannot listen on 127.0.0.1 port {port}" in err[-1]
    assert served == []
