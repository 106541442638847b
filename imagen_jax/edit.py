r"""`python -m imagen_jax.edit`: changes a picture, or draws between two seeds.

    python -m imagen_jax.edit --demo --prompt="a red panda" --picture=panda.png \
        --strength=0.6                                        # image to image
    python -m imagen_jax.edit --demo --prompt="a panda with a hat" \
        --picture=panda.png --mask=white_is_new.png           # inpainting
    python -m imagen_jax.edit --demo --prompt="a panda" --seeds=3,8 --num=7 \
        --out=between.png                                     # variations

Writes one PNG, or --num of them, numbered. Flags and wiring only; see
`imagen_jax.pipeline` and `imagen_jax.sampling.editing`.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from imagen_jax.compiled import keep_compiled
from imagen_jax.data.images import decode
from imagen_jax.data.records import BadRecordError
from imagen_jax.errors import UserError, run_command
from imagen_jax.host_memory import keep_freed_memory
from imagen_jax.loading import load, named_folders
from imagen_jax.sampler_choice import read_choice
from imagen_jax.sampling.cascade import Part
from imagen_jax.sampling.editing import NEW, Editing, check_editing
from imagen_jax.sampling.plan import MAX_SEED
from imagen_jax.sampling.png_text import check_out, write_png


def parse_flags() -> argparse.Namespace:
    """Returns the command line's flags."""
    parser = argparse.ArgumentParser(prog="python -m imagen_jax.edit")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--bundle", help="folder of a whole cascade")
    where.add_argument("--workdirs", help="of the stages from the base up, commas")
    where.add_argument("--demo", action="store_true", help="the weights of docs/demo")
    flag = parser.add_argument
    flag("--prompt", required=True)
    flag("--picture", type=Path, help="file to edit")
    flag("--mask", type=Path, help="file, white = draw anew")
    flag("--strength", type=float, default=1.0, help="0 keeps it, 1 redraws it")
    flag("--jump", type=int, help="RePaint's j; 1 of 25 steps")
    flag("--repeats", type=int, default=10, help="RePaint's r")
    flag("--seeds", help="A,B: pictures from seed A to seed B")
    flag("--seed", type=int, default=0, help="of the first picture")
    flag("--num", type=int, help="pictures; 1, or 5 with --seeds")
    flag("--guidance", help="weight, or one per stage by commas; 1 is none")
    flag("--steps", help="sampler steps, or one per stage by commas")
    flag("--batch_size", type=int, default=16)
    flag("--embeddings", default="", help="store with the prompt")
    flag("--out", type=Path, default=Path("edited.png"))
    return parser.parse_args()


def main() -> None:
    """Parses the command line, edits, writes the pictures."""
    keep_freed_memory()
    flags = parse_flags()
    seeds, mix = read_seeds(flags)
    num = len(seeds)
    editing = read_editing(flags)._replace(mix=mix)
    if editing.picture is None and mix is None:
        raise UserError(
            "there is nothing to edit; give --picture=FILE, or --seeds=A,B for "
            "variations"
        )
    check_editing(editing)  # before the weights are read
    check_out(flags.out)
    keep_compiled()
    folders = named_folders(flags.bundle, flags.workdirs)
    model = load(*folders, embeddings=flags.embeddings, say=tqdm.write)
    options: dict[str, Any] = {
        name: read_choice(text)
        for name in ("guidance", "steps")
        if (text := getattr(flags, name)) is not None
    }
    plan = model.plan(
        flags.prompt, seeds=seeds, batch_size=min(flags.batch_size, num), **options
    )
    editing = model.fit(editing)
    with tqdm(total=num * len(model.names), unit="picture") as progress:

        def report(part: Part) -> None:
            progress.set_description(f"edit {part.stage}")
            progress.update(len(part.pictures))

        made = model.draw(plan, report, editing)
    files = [flags.out]
    if num > 1:
        name, kind = flags.out.stem, flags.out.suffix
        files = [flags.out.with_name(f"{name}_{i}{kind}") for i in range(num)]
    last = model.names[-1]
    for i, (file, picture) in enumerate(zip(files, made[last], strict=True)):
        write_png(file, picture, model.recipe(plan, i, last, editing))
    print(f"{num} pictures: {', '.join(map(str, files))}")


def read_seeds(flags: argparse.Namespace):
    """Returns (a seed for each picture, other seeds and their shares or None)."""
    num = flags.num if flags.num is not None else 5 if flags.seeds else 1
    last = flags.seed + num - 1
    if num < 1 or flags.batch_size < 1 or flags.seed < 0 or last > MAX_SEED:
        raise UserError(
            f"--num={num} --batch_size={flags.batch_size} --seed={flags.seed}: the "
            f"first two must be at least 1, the seeds from 0 to {MAX_SEED}"
        )
    if flags.seeds is None:
        return range(flags.seed, flags.seed + num), None
    ends = flags.seeds.split(",")
    numbers = [int(end) for end in ends if end.strip().isdecimal()]
    if len(ends) != 2 or len(numbers) != 2 or max(numbers) > MAX_SEED:
        raise UserError(
            f"--seeds={flags.seeds} must be two whole numbers from 0 to {MAX_SEED}, "
            "e.g. 3,8"
        )
    shares = np.linspace(0.0, 1.0, num, dtype=np.float32)
    return [numbers[0]] * num, (np.full(num, numbers[1]), shares)


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


if __name__ == "__main__":
    run_command(main)
