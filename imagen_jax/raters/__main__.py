"""The command `python -m imagen_jax.raters`: people judge pictures.

controls  proposes control trials from the reference's pictures
serve     serves a study to raters, one link each
report    tables, plot and CSV files of what they answered

docs/raters.md goes from two folders of pictures to the table.
"""

import argparse
from pathlib import Path

from imagen_jax.errors import UserError, run_command
from imagen_jax.raters import tables
from imagen_jax.raters.controls import make_controls
from imagen_jax.raters.judgements import judge_raters
from imagen_jax.raters.plot import plot_rows
from imagen_jax.raters.recorded import read_recorded
from imagen_jax.raters.study import list_references


def main() -> None:
    """Runs the command that the arguments name."""
    args = _parse_args()
    match args.command:
        case "controls":
            _controls(args)
        case "serve":
            _serve(args)
        case "report":
            _report(args)


def _controls(args: argparse.Namespace) -> None:
    settings, pairs = list_references(args.study)
    path = make_controls(args.study, settings.kind, pairs, args.num, settings.seed)
    print(f"wrote {args.num} controls to {path}; look at them before raters do")


def _serve(args: argparse.Namespace) -> None:
    from imagen_jax.raters.serving import serve_study  # needs the extra raters

    serve_study(args.study, args.raters, args.host, args.port, args.url)


def _report(args: argparse.Namespace) -> None:
    studies = [read_recorded(Path(name)) for name in args.study.split(",")]
    kinds = {study.kind for study in studies}
    if "drawbench" in kinds and len(studies) > 1:
        raise UserError(
            f"{len(studies)} studies were given, one of kind drawbench; report that "
            "one by itself"
        )
    if kinds == {"drawbench"}:
        rows = tables.drawbench_rows(studies[0])
        text = tables.format_drawbench(rows)
    else:
        rows = tables.coco_rows(studies)
        text = tables.format_coco(rows)
    parts = [text]
    parts += [tables.format_raters(study, judge_raters(study)) for study in studies]
    print("\n\n".join(parts))
    out = args.out or studies[0].folder / "report"
    try:
        files = tables.write_csv_files(out, rows, studies)
        plot_rows(rows, out / "plot.png")
    except OSError as error:
        raise UserError(
            f"cannot write to {out} ({error.strerror}); choose another --out"
        ) from error
    print(f"\nwrote {', '.join(file.name for file in files)} and plot.png to {out}")


def _parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m imagen_jax.raters",
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    controls = commands.add_parser("controls", allow_abbrev=False)
    controls.add_argument("--study", type=Path, required=True, help="its folder")
    controls.add_argument("--num", type=int, default=20, help="how many (default: 20)")
    serve = commands.add_parser("serve", allow_abbrev=False)
    serve.add_argument("--study", type=Path, required=True, help="its folder")
    serve.add_argument(
        "--raters", type=int, default=20, help="links to have in all (default: 20)"
    )
    serve.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on (default: only this machine)",
    )
    serve.add_argument("--port", type=int, default=8000, help="0 takes a free one")
    serve.add_argument(
        "--url", help="how raters reach the server, for the links (default: host, port)"
    )
    report = commands.add_parser("report", allow_abbrev=False)
    report.add_argument(
        "--study",
        required=True,
        help="its folder; for table 2 a quality and an alignment study, with a comma",
    )
    report.add_argument(
        "--out", type=Path, help="folder for the files (default: report/ in the study)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main)
