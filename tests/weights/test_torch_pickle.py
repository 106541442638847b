"""The reader of torch's files, against files made by hand; torch's own: test_oracles.

A hostile pickle must be refused and must not run.
"""

import os
import pickle
import zipfile

import numpy as np
import pytest

from imagen_jax.errors import UserError
from imagen_jax.weights.torch_pickle import open_torch
from tests.weights.torch_fixture import (
    function,
    number,
    state,
    storage,
    tensor,
    text,
    write_legacy,
    write_zip,
)

DATA = np.arange(6, dtype=np.float32)
FULL = tensor(storage("0", 6), (2, 3), (3, 1))
WRITERS = pytest.mark.parametrize("write", [write_zip, write_legacy])


@WRITERS
def test_reads_tensors_in_place(tmp_path, write):
    path = tmp_path / "pytorch_model.bin"
    pickled = state(
        full=FULL,
        transposed=tensor(storage("0", 6), (3, 2), (1, 3)),
        last=tensor(storage("0", 6), (2,), (1,), offset=4),
        repeated=tensor(storage("0", 6), (2, 2), (0, 1), offset=1),
        scalar=tensor(storage("0", 6), (), (), offset=3),
        empty=tensor(storage("0", 6), (0, 3), (3, 1)),
        step=number(1000),
    )
    write(path, pickled, {"0": DATA.tobytes()})
    tensors = open_torch(path)
    expected = {
        "full": DATA.reshape(2, 3),
        "transposed": DATA.reshape(2, 3).T,
        "last": DATA[4:],
        "repeated": np.stack([DATA[1:3]] * 2),
        "scalar": DATA[3],
        "empty": np.zeros((0, 3), np.float32),
    }
    assert tensors.keys() == expected.keys()  # the step is no tensor
    for name, array in expected.items():
        assert tensors[name].shape == array.shape
        assert tensors[name].flags.c_contiguous
        np.testing.assert_array_equal(tensors[name], array)


@WRITERS
def test_reads_a_parameter(tmp_path, write):
    path = tmp_path / "pytorch_model.bin"
    rebuild = function("torch._utils", "_rebuild_parameter")
    parameter = rebuild + b"(" + FULL + b"\x88}tR"
    write(path, state(a=parameter), {"0": DATA.tobytes()})
    np.testing.assert_array_equal(open_torch(path)["a"], DATA.reshape(2, 3))


class Call:
    """Pickles as a call of a function, which loading it would make."""

    def __init__(self, called, *arguments):
        self.called, self.arguments = called, arguments

    def __reduce__(self):
        return self.called, self.arguments


def hostile_pickles(target):
    """Yields (what it asks for, pickle); the first would make the folder `target`."""
    python = f"__import__('os').mkdir({str(target)!r})"
    for name, call in (
        ("posix.system", Call(os.system, f"mkdir {target}")),
        ("posix.mkdir", Call(os.mkdir, str(target))),
        ("__builtin__.eval", Call(eval, python)),
        ("__builtin__.exec", Call(exec, python)),
        ("__builtin__.__import__", Call(__import__, "antigravity")),
    ):
        yield name, pickle.dumps(call, 2)
    yield "torch.load", b"\x80\x02" + function("torch", "load") + b"."
    # Attributes of what is admitted: a dotted name, as protocol 4 allows.
    dotted = b"\x80\x04" + text("collections") + text("OrderedDict.fromkeys") + b"\x93."
    yield "collections.OrderedDict.fromkeys", dotted
    inside = function("posix", "system") + b"(" + text(f"mkdir {target}") + b"tR"
    yield "posix.system", state(a=FULL, b=inside)


@WRITERS
@pytest.mark.parametrize("index", range(8))
def test_refuses_and_does_not_run_code(tmp_path, write, index):
    target = tmp_path / "was_run"
    wanted, pickled = list(hostile_pickles(target))[index]
    path = tmp_path / "pytorch_model.bin"
    write(path, pickled, {"0": DATA.tobytes()})
    with pytest.raises(UserError) as refusal:
        open_torch(path)
    assert f"asks for {wanted}, which" in str(refusal.value)
    assert "nothing was run" in str(refusal.value)
    assert not target.exists()


def test_the_hostile_pickles_would_run(tmp_path):
    """What the test above refuses is real: Python's own unpickler runs it."""
    target = tmp_path / "was_run"
    for _, pickled in list(hostile_pickles(target))[:4]:
        pickle.loads(pickled)
        target.rmdir()  # fails if it was not made


@WRITERS
@pytest.mark.parametrize(
    "entry",
    [
        tensor(storage("0", 6), (2, 4), (3, 1)),
        tensor(storage("0", 6), (2, 3), (3, 1), offset=1),
        tensor(storage("0", 6), (2, 3), (-3, 1), offset=3),
        tensor(storage("0", 6), (-2, 3), (3, 1)),
        tensor(storage("0", 6), (2, 3), (1,)),
        tensor(storage("0", -6), (), ()),
        tensor(storage("0", 7), (7,), (1,)),
        tensor(storage("1", 6), (6,), (1,)),
        tensor(storage("0", 6, marker="module"), (6,), (1,)),
        tensor(text("0"), (), ()),
        function("collections", "OrderedDict") + b"(K\x01tR",
        storage("0", 6) + b")R",
    ],
)
def test_refuses_tensors_that_do_not_fit_their_bytes(tmp_path, write, entry):
    path = tmp_path / "pytorch_model.bin"
    write(path, state(a=entry), {"0": DATA.tobytes()})
    with pytest.raises(UserError, match="not a complete torch checkpoint"):
        open_torch(path)


@WRITERS
def test_refuses_every_truncation(tmp_path, write):
    path = tmp_path / "pytorch_model.bin"
    write(path, state(a=FULL), {"0": DATA.tobytes()})
    whole = path.read_bytes()
    np.testing.assert_array_equal(open_torch(path)["a"], DATA.reshape(2, 3))
    for num_bytes in [*range(0, len(whole), 13), len(whole) - 1]:
        path.write_bytes(whole[:num_bytes])
        with pytest.raises(UserError, match="not a complete torch checkpoint"):
            open_torch(path)


def test_refuses_compressed_storages(tmp_path):
    path = tmp_path / "pytorch_model.bin"
    data = {"0": bytes(24)}
    write_zip(path, state(a=FULL), data, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(UserError, match="is compressed"):
        open_torch(path)


def test_refuses_what_another_machine_or_torch_wrote(tmp_path):
    path = tmp_path / "pytorch_model.bin"
    write_zip(path, state(a=FULL), {"0": DATA.tobytes()}, byteorder="big")
    with pytest.raises(UserError, match="big-endian"):
        open_torch(path)
    write_legacy(path, state(a=FULL), {"0": DATA.tobytes()}, protocol=1002)
    with pytest.raises(UserError, match="protocol 1002"):
        open_torch(path)


@pytest.mark.parametrize("pickled", [state(step=number(3)), b"\x80\x02K\x01."])
def test_refuses_a_file_without_tensors(tmp_path, pickled):
    path = tmp_path / "pytorch_model.bin"
    write_zip(path, pickled, {})
    with pytest.raises(UserError, match=r"no tensors at its top level.*state_dict"):
        open_torch(path)


def test_refuses_a_missing_file(tmp_path):
    with pytest.raises(UserError, match="no weights file"):
        open_torch(tmp_path / "pytorch_model.bin")
