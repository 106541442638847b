"""Reading weights tensor by tensor never holds more than the largest of them.

The files are written with random bytes, not holes. Each is read in a process of its
own with a sink that drops every tensor; what counts is the kernel's own peak of that
process's resident memory (VmHWM; getrusage's would begin with the parent's).
"""

import json
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from tests.weights.t5x_fixture import write_t5x

MB = 2**20
SINK = """
import sys
from imagen_jax.weights.folder import open_weights

def resident(field):
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith(field))
    return int(line.split()[1]) * 1024

start = resident("VmRSS")
total = 0
for tensor in open_weights(sys.argv[1]).tensors.values():
    total += tensor.nbytes
    del tensor
print(start, resident("VmHWM"), total)
"""


def random_tensors(sizes, seed):
    rng = np.random.default_rng(seed)
    return {
        f"layer.{seed}.{i}": np.frombuffer(rng.bytes(size), ml_dtypes.bfloat16)
        for i, size in enumerate(sizes)
    }


def assert_stays_small(path, num_bytes, largest):
    command = [sys.executable, "-c", SINK, str(path)]
    root = Path(__file__).parents[2]
    output = subprocess.run(command, check=True, capture_output=True, cwd=root).stdout
    start, peak, total = map(int, output.split())
    print(f"start {start / MB:.0f} MB, peak {peak / MB:.0f} MB")
    assert total == num_bytes
    assert peak - start <= 2 * largest + 200 * MB
    assert total > peak - start  # else it shows nothing


@pytest.mark.slow
def test_2_gb_of_sharded_safetensors(tmp_path):
    sizes = [128 * MB, *[32 * MB] * 12]  # 512 MB a shard
    shard_of = {}
    for i in range(4):
        shard = f"model-{i + 1:05}-of-00004.safetensors"
        tensors = random_tensors(sizes, seed=i)
        safetensors.numpy.save_file(tensors, tmp_path / shard)
        shard_of |= dict.fromkeys(tensors, shard)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": shard_of}))
    assert_stays_small(tmp_path, num_bytes=4 * sum(sizes), largest=128 * MB)


@pytest.mark.slow
@pytest.mark.oracle
@pytest.mark.parametrize("zipped", [True, False])
def test_torch_file_of_512_mb(tmp_path, zipped):
    torch = pytest.importorskip("torch")
    sizes = [64 * MB, *[16 * MB] * 28]
    tensors = {
        name: torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
        for name, array in random_tensors(sizes, seed=0).items()
    }
    path = tmp_path / "pytorch_model.bin"
    torch.save(tensors, path, _use_new_zipfile_serialization=zipped)
    assert_stays_small(path, num_bytes=sum(sizes), largest=64 * MB)


@pytest.mark.slow
def test_t5x_checkpoint_of_384_mb(tmp_path):
    sizes = [32 * MB, *[16 * MB] * 22]
    arrays = {
        name: array.reshape(8, -1)
        for name, array in random_tensors(sizes, seed=0).items()
    }
    write_t5x(tmp_path, arrays)
    assert_stays_small(tmp_path, num_bytes=sum(sizes), largest=32 * MB)
