"""Two systems' pictures as the folder of a DrawBench study for raters.

The layout is that of docs/raters.md: study.toml, prompts.csv with name,prompt,category,
and a/NAME/, b/NAME/ with the pictures of each prompt.
"""

import csv
import json
import shutil
from pathlib import Path

from imagen_jax.errors import UserError
from imagen_jax.evaluation.prompt_lists import PromptList
from imagen_jax.evaluation.systems import System


def write_study(folder: Path, a: System, b: System, listed: PromptList) -> None:
    """Writes the study; `python -m imagen_jax.raters serve --study=FOLDER` runs it.

    Raises:
      UserError: the folder is there already (it may hold answers), or the systems'
        pictures differ in size, which raters would notice.
    """
    if folder.exists():
        raise UserError(
            f"{folder} is there already and may hold raters' answers; move it away "
            "or give another --out"
        )
    if a.size != b.size:
        raise UserError(
            f"{a.name} has pictures of {a.size[0]}x{a.size[1]}, {b.name} of "
            f"{b.size[0]}x{b.size[1]} pixels; bring them to one size for raters"
        )
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    for side, system in (("a", a), ("b", b)):
        for i, files in enumerate(system.files):
            place = partial / side / f"{i:05d}"
            place.mkdir(parents=True)
            for number, file in enumerate(files):
                shutil.copyfile(file, place / f"{number}{file.suffix.lower()}")
    with (partial / "prompts.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("name", "prompt", "category"))
        for i, each in enumerate(listed.prompts):
            writer.writerow((f"{i:05d}", each.prompt, each.category))
    lines = ['kind = "drawbench"', 'title = "Which set of pictures is better?"']
    for side, system in (("a", a), ("b", b)):
        # A JSON string is a TOML string.
        name = json.dumps(system.name, ensure_ascii=False)
        lines += ["", f"[{side}]", f"name = {name}", f'folder = "{side}"']
    (partial / "study.toml").write_text("\n".join(lines) + "\n", "utf-8")
    partial.rename(folder)
