r"""`python -m imagen_jax.edit`: changes a picture, or draws between two seeds.

    python -m imagen_jax.edit --demo --prompt="a red panda" --picture=panda.png \
        --strength=0.6                                        # image to image
    python -m imagen_jax.edit --demo --prompt="a panda with a hat" \
        --picture=panda.png --mask=white_is_new.png           # inpainting
    python -m imagen_jax.edit --demo --prompt="a panda" --seeds=3,8 --num=7 \
        --out=between.png                                     # variations

Writes one PNG, or --num of them, numbered. Flags and wiring only; see
`imagen_jax.sampling.editing`.
"""

import argparse
import dataclasses
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image
from tqdm import tqdm

from imagen_jax.bundle import load_stage
from imagen_jax.data.images import decode
from imagen_jax.data.records import BadRecordError
from imagen_jax.errors import UserError, run_command
from imagen_jax.parallel.mesh import make_mesh, num_batch_shards
from imagen_jax.parallel.sharding import constrain_batch, replicated
from imagen_jax.sampling.cascade import CascadeStage, Part, Texts, check_cascade
from imagen_jax.sampling.editing import (
    NEW,
    Editing,
    check_editing,
    edit_cascade,
    fit_mask,
    fit_picture,
)
from imagen_jax.sampling.sampler import Sampler
from imagen_jax.text_source import open_text
from imagen_jax.workdir import local_copy

DEMO = Path(__file__).parent.parent / "docs" / "demo"
SEEDS = 2**32  # seeds are 32-bit numbers without a sign


def parse_flags() -> argparse.Namespace:
    """Returns the command line's flags."""
    parser = argparse.ArgumentParser(prog="python -m imagen_jax.edit")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--workdirs", help="of the stages from the base up, commas")
    where.add_argument("--demo", action="store_true", help="the weights of docs/demo")
    parser.add_argument("--prompt", required=True)
    parser.add_argument("--picture", type=Path, help="file to edit")
    parser.add_argument("--mask", type=Path, help="file, white = draw anew")
    parser.add_argument(
        "--strength", type=float, default=1.0, help="0 keeps the picture, 1 redraws it"
    )
    parser.add_argument("--jump", type=int, help="RePaint's j; 1 of 25 steps")
    parser.add_argument("--repeats", type=int, default=10, help="RePaint's r")
    parser.add_argument("--seeds", help="A,B: pictures from seed A to seed B")
    parser.add_argument("--seed", type=int, default=0, help="of the first picture")
    parser.add_argument("--num", type=int, help="pictures; 1, or 5 with --seeds")
    parser.add_argument("--guidance", type=float, help="weight of the base stage")
    parser.add_argument("--steps", type=int, help="sampler steps of every stage")
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--embeddings", default="", help="store with the prompt")
    parser.add_argument("--out", type=Path, default=Path("edited.png"))
    return parser.parse_args()


def main() -> None:
    """Parses the command line, edits, writes the pictures."""
    flags = parse_flags()
    num, seeds, mix = read_seeds(flags)
    mesh = make_mesh()
    folders = [DEMO / "base", DEMO / "sr256"]
    if not flags.demo:
        folders = [local_copy(folder) for folder in flags.workdirs.split(",")]
    editing = read_editing(flags)._replace(mix=mix)
    if editing.picture is None and mix is None:
        raise UserError(
            "there is nothing to edit; give --picture=FILE, or --seeds=A,B for "
            "variations"
        )
    check_editing(editing)  # before the weights are read
    with jax.set_mesh(mesh):
        loaded = [load_stage(folder, constrain=constrain_batch) for folder in folders]
    check_cascade([stage for stage, _ in loaded])
    cascade = []
    for i, (stage, params) in enumerate(loaded):
        config = stage.config.sampler
        if flags.steps is not None:
            config = dataclasses.replace(config, num_steps=flags.steps)
        if flags.guidance is not None and i == 0:
            config = dataclasses.replace(config, guidance_weight=flags.guidance)
        placed = jax.device_put(params, replicated(mesh))
        cascade.append(CascadeStage(Sampler(stage, config), placed))
    editing = to_size(editing, loaded[-1][0].config.resolution)
    config = loaded[0][0].config.text
    text = open_text(config, flags.embeddings, mesh).embed([flags.prompt] * num)
    shards = num_batch_shards(mesh)
    batch_size = -(-min(flags.batch_size, num) // shards) * shards
    total = num * len(cascade)
    with jax.set_mesh(mesh), tqdm(total=total, unit="picture") as progress:

        def report(part: Part) -> None:
            progress.set_description(f"edit {part.stage}")
            progress.update(len(part.pictures))

        made = edit_cascade(
            cascade, Texts(text), seeds, editing, batch_size=batch_size, report=report
        )
    files = [flags.out]
    if num > 1:
        name, kind = flags.out.stem, flags.out.suffix or ".png"
        files = [flags.out.with_name(f"{name}_{i}{kind}") for i in range(num)]
    flags.out.parent.mkdir(parents=True, exist_ok=True)
    for file, picture in zip(files, made[-1], strict=True):
        Image.fromarray(picture).save(file)
    print(f"{num} pictures: {', '.join(map(str, files))}")


def read_seeds(flags: argparse.Namespace):
    """Returns (number of pictures, their seeds, what is mixed in)."""
    num = flags.num if flags.num is not None else 5 if flags.seeds else 1
    last = flags.seed + num - 1
    if num < 1 or flags.batch_size < 1 or flags.seed < 0 or last >= SEEDS:
        raise UserError(
            f"--num={num} --batch_size={flags.batch_size} --seed={flags.seed}: the "
            f"first two must be at least 1, the seeds from 0 to {SEEDS - 1}"
        )
    if flags.seeds is None:
        return num, np.arange(flags.seed, flags.seed + num, dtype=np.uint32), None
    ends = flags.seeds.split(",")
    numbers = [int(end) for end in ends if end.strip().isdecimal()]
    if len(ends) != 2 or len(numbers) != 2 or max(numbers) >= SEEDS:
        raise UserError(
            f"--seeds={flags.seeds} must be two whole numbers from 0 to {SEEDS - 1}, "
            "e.g. 3,8"
        )
    first, other = (np.full(num, seed, np.uint32) for seed in numbers)
    return num, first, (other, np.linspace(0.0, 1.0, num, dtype=np.float32))


def read_editing(flags: argparse.Namespace) -> Editing:
    """Returns what the flags ask, with picture and mask as they are in their files."""
    picture = mask = None
    if flags.picture:
        picture = read_picture(flags.picture, "--picture")
    if flags.mask:
        grey = read_picture(flags.mask, "--mask").mean(axis=-1)
        mask = np.asarray(grey >= NEW)
    return Editing(picture, mask, flags.strength, flags.jump, flags.repeats)


def read_picture(path: Path, flag: str) -> UInt8[np.ndarray, "h w 3"]:
    """Returns the pixels of a file.

    Raises:
      UserError: there is no such file, or it holds no picture.
    """
    try:
        return decode(path.read_bytes())
    except (OSError, BadRecordError) as error:
        raise UserError(
            f"{flag}={path} cannot be read: {error}; give a PNG, JPEG or WebP file"
        ) from error


def to_size(editing: Editing, resolution: int) -> Editing:
    """Returns the editing with picture and mask at the cascade's resolution."""
    picture: UInt8[np.ndarray, "r r 3"] | None = editing.picture
    mask: Bool[np.ndarray, "r r"] | None = editing.mask
    if picture is None:
        return editing
    height, width, _ = picture.shape
    if (height, width) != (resolution, resolution):
        cropped = "" if height == width else "the central square of "
        print(
            f"{cropped}the picture of {width} x {height} pixels is brought to "
            f"{resolution} x {resolution}"
        )
        picture = fit_picture(picture, resolution)
        mask = None if mask is None else fit_mask(mask, resolution)
    return editing._replace(picture=picture, mask=mask)


if __name__ == "__main__":
    run_command(main)
