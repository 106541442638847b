"""Takes a folder or bucket for a run, unless it holds another run."""

import secrets
from typing import Any

import jax

from imagen_jax.config import StageConfig
from imagen_jax.config_file import read_config
from imagen_jax.errors import UserError
from imagen_jax.parallel.distributed import raise_together, same_on_all
from imagen_jax.stage import Stage
from imagen_jax.workdir import AnyWorkdir

# What a run may not change between two starts; the rest (length, rates, periods, mesh)
# it may.
FIXED_FIELDS = (
    "network",
    "text",
    "resolution",
    "low_res_resolution",
    "diffusion",
    "seed",
)


def claim_workdir(workdir: AnyWorkdir, stage: Stage) -> None:
    """Makes the workdir, or checks that it holds a run of this stage.

    Process 0 does so; where all share a folder, the others then look whether it is the
    one that they see. What a killed run has left behind is removed.

    Raises:
      UserError: on all processes: it holds another run, cannot be written, or is not
        shared.
    """
    first = jax.process_index() == 0
    mark = workdir.local / f".claim-{same_on_all(secrets.randbits(31)):08x}"

    def claim() -> None:
        try:
            workdir.fetch()
            check_same_run(workdir, stage)
            mark.touch()  # a disk that cannot be written fails now, not after hours
            workdir.clean()
        except OSError as error:
            raise UserError(
                f"--workdir={workdir.path} cannot be written: {error}"
            ) from error

    def look() -> None:
        if not mark.exists():
            raise UserError(
                f"--workdir={workdir.path} is not the folder that process 0 sees; give "
                "one on a disk that all hosts share"
            )

    raise_together(claim if first or not workdir.shared else lambda: None)
    try:
        raise_together(look)
    finally:
        own = first or not workdir.shared
        marks = workdir.local.glob(".claim-*") if own else ()  # a killed run's too
        for left_over in marks:
            left_over.unlink()


def check_same_run(workdir: AnyWorkdir, stage: Stage) -> None:
    """Raises a UserError if the workdir's config.json is of another run."""
    path = workdir.local / "config.json"
    if not path.exists():
        return
    before = read_config(path)
    for field in FIXED_FIELDS:
        old, new = (_fixed_part(config, field) for config in (before, stage.config))
        if old != new:
            raise UserError(
                f"{workdir.path} holds a run with another {field}: {old}, not {new}; "
                "use another --workdir"
            )


def _fixed_part(config: StageConfig, field: str) -> Any:
    """Returns a field of FIXED_FIELDS; of `text`, what says which embeddings it is."""
    return config.text.identity if field == "text" else getattr(config, field)
