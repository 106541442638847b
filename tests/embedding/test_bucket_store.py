"""A store in a bucket, from the job to the look-up: local servers of s3:// and gs://.

They come with pip install "moto[s3]" flask flask-cors s3fs gcp-storage-emulator gcsfs.
"""

import numpy as np
import pytest

from imagen_jax.data.embedding_store import EmbeddingStore
from imagen_jax.data.remote import open_folder
from imagen_jax.embedding.job import fill_store
from imagen_jax.embedding.verify import verify_store
from imagen_jax.errors import UserError
from tests.embedding.fake_encoder import expected, make_encoder

CAPTIONS = [f"a caption number {i}" for i in range(60)]

# The clients' own threads and sockets outlive a test.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


@pytest.fixture
def s3_store(monkeypatch):
    server = pytest.importorskip("moto.server")
    s3fs = pytest.importorskip("s3fs")
    server = server.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().makedirs("bucket", exist_ok=True)
    yield "s3://bucket/some/store"
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture
def gs_store(monkeypatch):
    server = pytest.importorskip("gcp_storage_emulator.server")
    gcsfs = pytest.importorskip("gcsfs")
    server = server.create_server("127.0.0.1", 0, in_memory=True)
    server.start()
    port = server._api._httpd.server_port
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    gcsfs.GCSFileSystem.clear_instance_cache()
    gcsfs.GCSFileSystem(token="anon", project="none").mkdir("bucket")
    yield "gs://bucket/some/store"
    gcsfs.GCSFileSystem.clear_instance_cache()
    server.stop()


@pytest.mark.parametrize("kind", ["s3_store", "gs_store"])
def test_a_store_in_a_bucket(kind, request, tmp_path, monkeypatch):
    url = request.getfixturevalue(kind)
    monkeypatch.setenv("IMAGEN_JAX_CACHE", str(tmp_path))
    encoder = make_encoder()
    with pytest.raises(UserError, match="is no finished embedding store"):
        EmbeddingStore(url)

    # One host of two; then the other, which finishes.
    assert not fill_store(encoder, CAPTIONS, url, num_shards=4, host=(1, 2)).finished
    folder = open_folder(url)
    marker = "shard-00001-of-00004.json"
    assert marker in folder.names()
    plan = folder.read("plan.json")
    if kind == "s3_store":  # the other emulator ignores ifGenerationMatch
        assert not folder.create("plan.json", b"another host's, a moment later")
    assert folder.read("plan.json") == plan
    with pytest.raises(UserError, match="made with max_length 6, now 5"):
        fill_store(encoder._replace(max_length=5), CAPTIONS, url)
    assert fill_store(encoder, CAPTIONS, url, host=(0, 2)).finished
    assert fill_store(encoder._replace(encode=None), CAPTIONS, url).kept
    assert len(folder.names()) == 2 + 3 * 4

    store = EmbeddingStore(url)
    for _ in range(2):  # the second time from the local copy
        embed, mask = store.lookup(CAPTIONS)
        np.testing.assert_array_equal(embed, expected(CAPTIONS)[0])
        np.testing.assert_array_equal(mask, expected(CAPTIONS)[1])
        copies = list((tmp_path / "stores").rglob("*.array_record"))
        assert len(copies) == 4
        store = EmbeddingStore(url)
    assert verify_store(url).num_captions == 60

    # Damaged, named, and made anew as the sentence says.
    damaged = tmp_path / "damaged"
    damaged.write_bytes(b"half")
    folder.put(damaged, marker.replace(".json", ".array_record"))
    with pytest.raises(UserError, match="1 of 4 shards"):
        verify_store(url)
    for name in ("manifest.json", marker):
        folder._files.rm_file(folder._url(name))
    fill_store(encoder, CAPTIONS, url)
    assert verify_store(url).num_captions == 60


def test_a_bucket_that_is_not_there_is_one_sentence(s3_store):
    with pytest.raises(
        UserError, match=r"s3://nowhere/x cannot be used .*check the na"
    ):
        fill_store(make_encoder(), CAPTIONS, "s3://nowhere/x")
