"""This project's worker of `data.py`: FOLDER RESOLUTION WORKERS."""

import sys

from data_turns import serve

from imagen_jax.data.embedding_store import EmbeddingStore
from imagen_jax.data.pipeline import BatchMaker, iterate
from imagen_jax.data.sources.opening import open_source
from imagen_jax.interfaces import TextEmbeddings

BATCH_SIZE = 64


def main() -> None:
    """Serves batches as a training run takes them."""
    folder, resolution, num_threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    # No cache of captions: each of a real set's comes once an epoch.
    store = EmbeddingStore(f"{folder}/store", cache_size=0)
    maker = BatchMaker(
        open_source(f"index:{folder}/index"),
        lambda captions: TextEmbeddings(*store.lookup(captions)),
        resolution=resolution,
        batch_size=BATCH_SIZE,
        seed=0,
    )
    batches = iterate(maker, 0, 10**6, num_threads)
    serve(batches, BATCH_SIZE, num_ready=2 * num_threads)


if __name__ == "__main__":
    main()
