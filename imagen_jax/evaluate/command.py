"""Finds the job that the command line names, and runs it.

A job's module is imported when it is asked for, so that none needs the packages of
another.
"""

import argparse
import ast
import importlib
import pkgutil
import sys
from pathlib import Path

PROGRAM = "python -m imagen_jax.evaluate"
NOT_JOBS = ("__main__", "arguments", "cascade_flags", "command", "output")


def jobs() -> dict[str, str]:
    """Returns the help text of each job by its name, nothing being imported."""
    folder = Path(__file__).parent
    modules = [module.name for module in pkgutil.iter_modules([str(folder)])]
    return {
        name.replace("_", "-"): _summary(folder / f"{name}.py")
        for name in modules
        if name not in NOT_JOBS
    }


def main() -> None:
    """Runs the job that the first argument names with the other arguments."""
    known = jobs()
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="How good are these pictures?",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="jobs:\n" + "\n".join(f"  {n:22}{text}" for n, text in known.items()),
    )
    parser.add_argument("job", choices=known, metavar="JOB", help="see below")
    name = parser.parse_args(sys.argv[1:2]).job
    job = importlib.import_module(f"imagen_jax.evaluate.{name.replace('-', '_')}")
    flags = argparse.ArgumentParser(
        prog=f"{PROGRAM} {name}",
        allow_abbrev=False,
        description=job.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    job.add_arguments(flags)
    job.run(flags.parse_args(sys.argv[2:]))


def _summary(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").split("\n")[0]
