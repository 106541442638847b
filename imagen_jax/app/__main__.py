"""`python -m imagen_jax.app`: a page and a REST endpoint that draw with a cascade.

    python -m imagen_jax.app --demo
    python -m imagen_jax.app --bundle=DIR --batch_size=4 --num_pictures=8
    python -m imagen_jax.app --workdirs=BASE,SR256 --host=0.0.0.0 --port=80

Needs the extra `app`. Flags and wiring only; see `imagen_jax.app.serving` and
docs/app.md.
"""

import argparse

from imagen_jax.app.serving import STEPS, serve
from imagen_jax.app.studio import Remarks
from imagen_jax.compiled import keep_compiled
from imagen_jax.data.sources import openmoji
from imagen_jax.errors import UserError, run_command
from imagen_jax.loading import load, named_folders
from imagen_jax.pipeline import Pipeline

MAX_QUEUE = 1000


def parse_flags() -> argparse.Namespace:
    """Returns the command line's flags."""
    parser = argparse.ArgumentParser(
        prog="python -m imagen_jax.app", allow_abbrev=False
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--bundle", help="folder of a whole cascade")
    where.add_argument("--workdirs", help="of the stages from the base up, commas")
    where.add_argument("--demo", action="store_true", help="the weights of docs/demo")
    flag = parser.add_argument
    flag("--host", default="127.0.0.1", help="to listen on; only this machine")
    flag("--port", type=int, default=7860, help="0 takes a free one")
    flag("--queue_limit", type=int, default=8, help="requests that may wait")
    flag("--num_pictures", type=int, default=4, help="of a request, at most")
    flag("--batch_size", type=int, default=1, help="pictures in a call of a stage")
    flag(
        "--steps",
        default=",".join(map(str, STEPS)),
        help="numbers of sampler steps to offer, besides the stages' own",
    )
    flag("--in_turn", action="store_true", help="one stage's weights at a time")
    flag("--embeddings", default="", help="store of the prompts' embeddings")
    flag("--encoder_weights", default="", help="folder, hub name or T5X checkpoint")
    return parser.parse_args()


def main() -> None:
    """Parses the command line, loads, serves."""
    flags = parse_flags()
    if flags.num_pictures < 1 or flags.batch_size < 1:
        raise UserError(
            f"--num_pictures={flags.num_pictures} --batch_size={flags.batch_size}: "
            "both must be at least 1"
        )
    if not 0 <= flags.queue_limit <= MAX_QUEUE:
        raise UserError(
            f"--queue_limit={flags.queue_limit}; it must be from 0 to {MAX_QUEUE}"
        )
    steps = read_steps(flags.steps)

    def load_model(remarks: Remarks) -> Pipeline:
        keep_compiled()
        return load(
            *named_folders(flags.bundle, flags.workdirs),
            embeddings=flags.embeddings,
            encoder_weights=flags.encoder_weights,
            resident=not flags.in_turn,
            say=remarks,
        )

    serve(
        load_model,
        host=flags.host,
        port=flags.port,
        queue_limit=flags.queue_limit,
        batch_size=flags.batch_size,
        num_pictures=flags.num_pictures,
        steps=steps,
        credit=openmoji.ATTRIBUTION if flags.demo else "",
    )


def read_steps(text: str) -> tuple[int, ...]:
    """Returns the numbers of steps that a flag lists.

    Raises:
      UserError: it is not a list of whole numbers from 1.
    """
    numbers = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdecimal() and int(part) for part in numbers):
        raise UserError(
            f"--steps={text} must be whole numbers from 1 by commas, e.g. 10,25,50"
        )
    return tuple(sorted({int(part) for part in numbers}))


if __name__ == "__main__":
    run_command(main)
