"""100,000 captions through a job that is killed, and one store from two processes."""

import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from imagen_jax.data.embedding_store import EmbeddingStore
from imagen_jax.embedding.verify import verify_store
from tests.embedding.fake_encoder import expected
from tests.text.tiny_bert import write_folder

ROOT = Path(__file__).parent.parent.parent
NUM_CAPTIONS = 100_000
NUM_SHARDS = 24
NUM_KILLS = 5
WIDTH = 16

GROUNDS = "red blue green yellow grey black white orange purple pink".split()
TEMPLATES = (
    "{} on a {} background",
    "a drawing of {} on a {} ground, seen from the front and in full",
    "{}, {} behind it",
)

FILL = """
import sys
from imagen_jax.embedding.job import fill_store
from tests.embedding.fake_encoder import make_encoder

with open(sys.argv[1], encoding="utf-8") as file:
    captions = file.read().splitlines()
encoder = make_encoder(width=16, max_length=12, batch_sec=0.002)
fill_store(encoder, captions, sys.argv[2], num_shards=24)
"""

# rchar counts what is read by calls; the index is memory-mapped, so all of it counts.
LOOK_UP = """
import sys
import array_record.python.array_record_module
from imagen_jax.data.embedding_store import EmbeddingStore

def num_read():
    with open("/proc/self/io") as file:
        return int(file.readline().split()[1])

before = num_read()
store = EmbeddingStore(sys.argv[1])
embed, mask = store.lookup([sys.argv[2]])
((_, shard),) = store._shards.items()
print(num_read() - before + shard.index.nbytes, mask.sum())
"""


def captions_of_emoji():
    """Returns the captions: names of emoji x grounds x sentence templates."""
    emoji = pytest.importorskip("emoji")
    names = sorted(
        {
            fields["en"].strip(":").replace("_", " ")
            for fields in emoji.EMOJI_DATA.values()
        }
    )
    captions = (
        template.format(name, ground)
        for template, ground, name in itertools.product(TEMPLATES, GROUNDS, names)
    )
    distinct = list(dict.fromkeys(captions))[:NUM_CAPTIONS]
    assert len(distinct) == NUM_CAPTIONS
    return distinct


def start(*arguments, **options):
    # Without the virtual devices of the tests: the real command's own settings.
    environment = {**os.environ, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)], cwd=ROOT, env=environment, **options
    )


def finished_shards(store):
    """Returns the files of shards that are done, and when they were written."""
    return {
        path: path.stat().st_mtime_ns
        for marker in store.glob("shard-*.json")
        for path in store.glob(f"{marker.stem}.*")
    }


@pytest.mark.slow
def test_100_000_captions_survive_five_kills(tmp_path):
    captions = captions_of_emoji()
    file, store = tmp_path / "captions.txt", tmp_path / "store"
    file.write_text("\n".join(captions), encoding="utf-8")
    rng = random.Random(0)
    done = {}
    for _ in range(NUM_KILLS):
        job = start("-c", FILL, file, store, stderr=subprocess.DEVNULL)
        while not list(store.glob("unfinished-*/*")) and job.poll() is None:
            time.sleep(0.01)  # until it writes a shard
        time.sleep(rng.uniform(0.0, 1.2))
        job.send_signal(signal.SIGKILL)
        assert job.wait() == -signal.SIGKILL  # it was at work
        now = finished_shards(store)
        assert done.items() <= now.items()  # nothing is lost, or written twice
        done = now
    assert 0 < len(done) < 3 * NUM_SHARDS
    assert not (store / "manifest.json").exists()
    assert start("-c", FILL, file, store, stderr=subprocess.DEVNULL).wait() == 0
    assert done.items() <= finished_shards(store).items()
    assert not list(store.glob("unfinished-*"))

    assert verify_store(store).num_captions == NUM_CAPTIONS
    opened = EmbeddingStore(store, cache_size=0)
    for first in range(0, NUM_CAPTIONS, 5000):
        part = captions[first : first + 5000]
        embed, mask = opened.lookup(part)
        wanted = expected(part, WIDTH, 12)
        np.testing.assert_array_equal(mask, wanted[1])
        np.testing.assert_array_equal(embed, wanted[0])

    look_up = start("-c", LOOK_UP, store, captions[77_777], stdout=subprocess.PIPE)
    num_bytes, num_tokens = map(int, look_up.communicate()[0].split())
    assert num_tokens == len(captions[77_777].split()[:12])
    print(f"opening and one key read {num_bytes} bytes")
    assert num_bytes < 5_000_000


def free_port():
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


def all_records(store, captions):
    embed, mask = EmbeddingStore(store).lookup(captions)
    # bfloat16 as ordered integers: one apart is one unit in the last place.
    bits = embed.view(np.int16).astype(int)
    return np.where(bits < 0, -0x8000 - bits, bits), mask


@pytest.mark.slow
def test_two_processes_make_the_store_of_one(tmp_path):
    words = "a the fox owl cat red blue on".split()
    rng = random.Random(0)
    captions = sorted(
        {" ".join(rng.choices(words, k=rng.randint(1, 9))) for _ in range(600)}
    )
    file = tmp_path / "captions.txt"
    file.write_text("\n".join(captions))
    flags = (
        *("-m", "imagen_jax.embed", "--encoder=tiny", f"--captions={file}"),
        f"--weights={write_folder(tmp_path / 'bert')}",
        *("--max_length=12", "--num_shards=5", "--batch_size=16"),
    )
    one, together = tmp_path / "one", tmp_path / "together"
    assert start(*flags, f"--store={one}").wait() == 0
    port = free_port()
    processes = [
        start(
            *flags,
            f"--store={together}",
            f"--coordinator=127.0.0.1:{port}",
            "--num_processes=2",
            f"--process_id={index}",
            stdout=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    printed = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    counts = [int(text.split("embedded ")[1].split()[0]) for text in printed]
    assert sum(counts) == len(captions)
    assert min(counts) > 0  # each did its part

    assert verify_store(together).num_captions == len(captions)
    bits, mask = all_records(one, captions)
    other_bits, other_mask = all_records(together, captions)
    np.testing.assert_array_equal(mask, other_mask)
    assert np.abs(bits - other_bits).max() <= 1
