r"""Zero-shot FID-30K on COCO, and the paper's Table 1 with the new row in place.

    python -m imagen_jax.evaluate coco --coco=DIR --bundle=DIR \
        --features_weights=pt_inception-2015-12-05-6726825d.pth --out=DIR
    python -m imagen_jax.evaluate coco --coco=DIR --workdirs=BASE,SR256 \
        --features=efficientnet-lite0 --num=1000 --out=DIR

--coco has COCO's own layout (annotations/captions_val2014.json, val2014/*.jpg; or of
2017). Captions are drawn by --seed as `imagen_jax.evaluation.coco` says. A killed run
goes on where it was; several machines that share a disk draw together by --hosts=I/N or
--coordinator=auto, and the last to finish scores. --out gets samples/, reference.npz
(kept, so a second model is scored without reading the set again: --reference=FILE),
coco.json and table1.txt.
"""

import argparse
from pathlib import Path

import jax

from imagen_jax.compiled import keep_compiled
from imagen_jax.drawing import describe, fill
from imagen_jax.embedding.machine import join_hosts
from imagen_jax.errors import UserError
from imagen_jax.evaluate.cascade_flags import add_cascade, open_cascade, read_settings
from imagen_jax.evaluate.output import write_json, write_text
from imagen_jax.evaluation.coco import (
    YEARS,
    describe_draw,
    draw_captions,
    open_coco,
)
from imagen_jax.evaluation.coco_report import (
    format_coco_report,
    make_coco_report,
    make_reference,
    plan_captions,
    read_reference,
)
from imagen_jax.evaluation.paper_tables import COUNT, RESOLUTION
from imagen_jax.features.opening import NAMES, open_extractor
from imagen_jax.host_memory import keep_freed_memory
from imagen_jax.parallel.distributed import add_flags
from imagen_jax.parallel.mesh import make_mesh
from imagen_jax.sampling.gallery import Gallery


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the job's flags."""
    flag = parser.add_argument
    flag("--coco", type=Path, required=True, help="folder in COCO's layout")
    flag("--year", type=int, choices=YEARS, help="default: 2014 if it is there")
    flag("--num", type=int, default=COUNT, help="captions to draw")
    flag("--seed", type=int, default=0, help="of the captions, and of the noise")
    flag("--features", choices=NAMES, default="inception")
    flag("--features_weights", "--weights", help="as `evaluate fid` takes --weights")
    flag("--name", default="this model", help="of the new row")
    flag("--trained_on_coco", action="store_true", help="the row is not zero-shot")
    flag("--out", type=Path, required=True, help="folder")
    flag("--samples", type=Path, help="folder of the pictures (default: OUT/samples)")
    flag("--reference", type=Path, help="default: OUT/reference.npz, made if missing")
    flag("--hosts", metavar="I/N", help="this is machine I (from 0) of N")
    add_flags(parser)
    add_cascade(parser, RESOLUTION)


def run(args: argparse.Namespace) -> None:
    """Draws what is missing; when all is there, scores it and prints the table."""
    keep_freed_memory()
    host = join_hosts(args.hosts, args.coordinator, args.num_processes, args.process_id)
    if not host[0] < host[1]:
        raise UserError(f"--hosts={args.hosts}: machines are numbered from 0 to N - 1")
    coco = open_coco(args.coco, args.year)
    drawn = draw_captions(coco.captions, args.num, args.seed)
    keep_compiled()
    # What could stop the run after days of drawing is read before.
    mesh = make_mesh(devices=jax.local_devices())
    extractor = open_extractor(args.features, args.features_weights, mesh)
    path = args.reference or args.out / "reference.npz"
    read_reference(path, coco, extractor, args.resolution)
    samples = args.samples or args.out / "samples"
    model = open_cascade(args)
    options = {**read_settings(args), "second": "", "blend": 0.5}
    pictures = plan_captions(drawn, args.seed)
    stage = model.names[-1]
    settings = describe(model, options)
    gallery = Gallery(samples, pictures, [stage], settings)
    if not fill(model, gallery, options, host):
        print(f"{samples}: other machines have pictures to draw yet")
        return
    reference = read_reference(path, coco, extractor, args.resolution)
    if reference is None:
        reference = make_reference(path, coco, extractor, args.resolution)
    report = make_coco_report(
        samples / stage,
        reference,
        extractor,
        row={"model": args.name, "zero_shot": not args.trained_on_coco},
        resolution=args.resolution,
        year=coco.year,
        draw=describe_draw(drawn, coco.year, args.seed),
        drawn_with=settings,
    )
    table = format_coco_report(report)
    write_json(args.out / "coco.json", report)
    write_text(args.out / "table1.txt", table + "\n")
    print(table)
