"""The model card of a bundle: what was trained on what, and how to draw with it.

It states what the stages' settings and checkpoints say, and nothing else. What only
people know, such as the pictures' licence, is given as `about`.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from imagen_jax.config import StageConfig, TextConfig
from imagen_jax.version import __version__

_HEAD = """\
---
library_name: imagen_jax
pipeline_tag: text-to-image
---

# {title}

{about}Pictures from text by a cascade of {count} diffusion model{s} (Imagen,
arXiv:2205.11487), averaged weights in bfloat16.

```python
import imagen_jax

model = imagen_jax.load("PATH/OF/THIS/FOLDER")
pictures = model("a prompt", seeds=[0, 1])  # uint8 [2 {size} {size} 3]
```

```
python -m imagen_jax.sample --bundle=PATH/OF/THIS/FOLDER --prompt="a prompt"
```

## What was trained on what

"""

_FOOT = """
## Files

`bundle.json` has the sha256 of every file; `STAGE/config.json` all settings of a stage;
`STAGE/ema.safetensors` its weights. Written by imagen_jax {version}.
"""


class TrainedStage(NamedTuple):
    """What the card says of a stage.

    Attributes:
      config: its settings.
      num_parameters: of the network.
      origin: which weights they are, see `averages.Averages`.
    """

    config: StageConfig
    num_parameters: int
    origin: Mapping[str, str | int]


def card_text(
    title: str, stages: Sequence[TrainedStage], tokenizer: str | None, about: str = ""
) -> str:
    """Returns the card, Markdown.

    Args:
      title: name of the model.
      stages: from the base up, at least one.
      tokenizer: id of the vocabulary in the bundle, None if there is none.
      about: Markdown to put first: the pictures' licence, what the model is for.
    """
    head = _HEAD.format(
        title=title,
        about=f"{about.strip()}\n\n" if about.strip() else "",
        count=len(stages),
        s="s" if len(stages) > 1 else "",
        size=stages[-1].config.resolution,
    )
    sections = [_stage_text(stage) for stage in stages]
    sections.append(_text_encoder(stages[0].config.text, tokenizer))
    return head + "\n".join(sections) + _FOOT.format(version=__version__)


def _stage_text(trained: TrainedStage) -> str:
    config, origin = trained.config, trained.origin
    makes = f"text to {config.resolution} x {config.resolution} pixels"
    if config.is_super_resolution:
        size = config.low_res_resolution
        makes = f"text and {size} x {size} pixels to {config.resolution}"
    weights = f"the weights with sha256 {origin.get('weights_sha256')}"
    if "step" in origin:
        weights = f"step {origin['step']}, average with decay {origin['ema_decay']}"
    train, sampler = config.train, config.sampler
    rows = {
        "makes": makes,
        "network": f"{config.network.kind}, {trained.num_parameters / 1e6:.1f} million "
        "parameters",
        "trained on": f"`{config.data.source}`" if config.data.source else "not noted",
        "training": f"{train.num_steps} steps of {train.batch_size} pictures, "
        f"{config.optimizer.kind}, predicts {config.diffusion.prediction}, seed "
        f"{config.seed}",
        "weights": weights,
        "sampler": f"{sampler.kind}, {sampler.num_steps} steps, guidance "
        f"{sampler.guidance_weight:g}, {sampler.threshold} thresholding",
    }
    if config.is_super_resolution:
        rows["sampler"] += f", aug_level {sampler.aug_level:g}"
        rows["training"] += f", aug_level up to {config.diffusion.aug_level_max:g}"
    lines = [f"### {config.name}", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in rows.items()]
    return "\n".join(lines) + "\n"


def _text_encoder(config: TextConfig, tokenizer: str | None) -> str:
    inside = f"its vocabulary is (`{tokenizer}`)" if tokenizer else "nor its vocabulary"
    recorded = f", weights `{config.weights_sha256}`" if config.weights_sha256 else ""
    return (
        "### Text encoder\n\n"
        f"{config.encoder}, frozen: width {config.width}, at most {config.max_length} "
        f"tokens, cleaning {config.cleaning}{recorded}. Its weights are not in this "
        f"folder, {inside}.\n"
    )
