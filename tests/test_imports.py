"""The order of the rooms, and what importing the package may touch.

The rooms of one level do not import each other and import only from lower levels; some
libraries belong to one room. All import statements count: relative ones, those inside
functions, and `import_module("...")` with a literal name.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = "imagen_jax"

LEVELS = (
    # The modules of level 0 are small and may import one another.
    "cache cascade_config compiled config config_checks config_file errors "
    "host_memory interfaces network_config optional prompts retention sampler_choice "
    "sampler_config train_config version web",
    "data diffusion models parallel text weights",
    "bundle_card bundle_folder checkpoint features stage text_source workdir",
    "averages bucket_checkpoints metrics prompt_text",
    "bundle",
    "sampling",
    "pipeline",  # what every tool that samples goes through
    "drawing loading trajectory",
    "app embedding evaluation raters training",
    # These wire sampling and evaluation, planning the train step itself.
    "ablations planning preview sheet",
    "doctor edit embed evaluate plan prepare sample train upscale",
)
LEVEL_OF_ROOM = {room: i for i, rooms in enumerate(LEVELS) for room in rooms.split()}
COMMANDS = len(LEVELS) - 1

# `imagen_jax.load` is there without importing anything until it is called.
ON_CALL = {
    ("imagen_jax", "imagen_jax.loading.load"),
    ("imagen_jax", "imagen_jax.pipeline"),  # for type checkers only
}

# Rooms that must stay readable without knowing any library but these.
PURE_ROOMS = ("diffusion", "interfaces")
PURE_LIBRARIES = ("jax", "jaxtyping", "numpy")

ONLY_IN = {
    "flax": "models",
    "orbax": "checkpoint",
    "torch": None,
    "transformers": None,
    "diffusers": None,
    "tensorflow": None,
}


def imported_names(path: Path, module: str) -> Iterator[tuple[int, str]]:
    """Yields (line, dotted name) of all that a file imports.

    `from a import b` yields "a.b", which may be a module or a thing in module a.
    """
    package = module if path.stem == "__init__" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=base, names=names, level=level):
                if level:
                    parents = package.split(".")
                    base = ".".join(
                        [*parents[: len(parents) - level + 1], *filter(None, [base])]
                    )
                yield from ((node.lineno, f"{base}.{alias.name}") for alias in names)
            case ast.Call(
                func=ast.Name(id=function) | ast.Attribute(attr=function),
                args=[ast.Constant(value=str(name)), *_],
            ) if function in ("import_module", "import_optional", "__import__"):
                yield node.lineno, name


def place(module: str) -> tuple[str, int | None]:
    """Returns a module's room and level; level None for a room that is not listed.

    A folder's `__main__` is a command, and so a room by itself, unless the folder is a
    command as a whole.
    """
    parts = module.split(".")[1:]
    if not parts or parts[0].startswith("__"):  # the package and its __version__
        return "version", 0
    if parts[1:] == ["__main__"] and LEVEL_OF_ROOM.get(parts[0]) != COMMANDS:
        return f"{parts[0]}.__main__", COMMANDS
    return parts[0], LEVEL_OF_ROOM.get(parts[0])


def find_fault(module: str, imported: str) -> str | None:
    """Returns why `module` must not import `imported`, or None if it may."""
    if (module, imported) in ON_CALL:
        return None
    room, level = place(module)
    library = imported.split(".")[0]
    if library != PACKAGE:
        if library in ONLY_IN and ONLY_IN[library] != room:
            return f"{library} belongs to {ONLY_IN[library] or 'the tests'}"
        known = library in PURE_LIBRARIES or library in sys.stdlib_module_names
        if room in PURE_ROOMS and not known:
            return f"{room} imports only {', '.join(PURE_LIBRARIES)}"
        return None
    other_room, other_level = place(imported)
    if level is None or other_level is None:
        unknown = room if level is None else other_room
        return f"{unknown} is in no level of tests/test_imports.py"
    if other_room == room:
        return None
    if room in PURE_ROOMS and other_room not in PURE_ROOMS:
        return f"{room} imports only {' and '.join(PURE_ROOMS)}"
    if other_level > level or (other_level == level and level > 0):
        return f"level {level} imports level {other_level}"
    return None


def find_faults(package: Path) -> list[str]:
    """Returns one line for each import that breaks the order."""
    faults = []
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        module = ".".join(parts).removesuffix(".__init__")
        if place(module)[1] is None:
            faults.append(f"{module}: in no level of tests/test_imports.py")
        for line, name in imported_names(path, module):
            if fault := find_fault(module, name):
                faults.append(f"{module}:{line}: imports {name}: {fault}")
    return faults


def test_rooms_import_only_downwards():
    faults = find_faults(ROOT / PACKAGE)
    assert not faults, "\n".join(faults)


def test_configs_import_only_ml_collections():
    allowed = {*sys.stdlib_module_names, "ml_collections"}
    faults = [
        f"{path.name}:{line}: {name}"
        for path in sorted((ROOT / "configs").glob("*.py"))
        for line, name in imported_names(path, f"configs.{path.stem}")
        if name.split(".")[0] not in allowed
    ]
    assert faults == []


@pytest.mark.parametrize(
    ("file", "source", "expected"),
    [
        ("data/x.py", "import imagen_jax.text.t5", "level 1 imports level 1"),
        ("data/x.py", "from imagen_jax import models", "level 1 imports level 1"),
        ("data/x.py", "from ..stage import Stage", "level 1 imports level 2"),
        ("data/sources/x.py", "from ... import text", "level 1 imports level 1"),
        ("data/__init__.py", "from ..text import t5", "level 1 imports level 1"),
        (
            "data/x.py",
            "def f():\n  import imagen_jax.train",
            f"imports level {COMMANDS}",
        ),
        ("stage.py", "from .checkpoint import save", "level 2 imports level 2"),
        ("config.py", "from imagen_jax.data import images", "level 0 imports level 1"),
        ("__init__.py", "from imagen_jax.config import x", ""),
        ("__init__.py", "from . import training", "level 0 imports level 8"),
        ("__init__.py", "from imagen_jax.pipeline import Plan", "imports level 6"),
        (
            "training/x.py",
            "import imagen_jax.embedding.__main__",
            f"imports level {COMMANDS}",
        ),
        (
            "train.py",
            "from imagen_jax.sample import main",
            f"level {COMMANDS} imports level {COMMANDS}",
        ),
        ("utils.py", "", "in no level"),
        ("train.py", "from imagen_jax.utils import x", "utils is in no level"),
        ("stage.py", "import flax.linen as nn", "flax belongs to models"),
        ("stage.py", "from flax import linen", "flax belongs to models"),
        ("bundle.py", "import orbax.checkpoint", "orbax belongs to checkpoint"),
        ("text/x.py", "import_module('torch.nn')", "torch belongs to the tests"),
        ("text/x.py", "m.import_optional('torch', 'x')", "torch belongs to the tests"),
        ("diffusion/x.py", "import optax", "imports only jax, jaxtyping, numpy"),
        ("diffusion/x.py", "from ..config import x", "only diffusion and interfaces"),
        ("interfaces.py", "import flax", "flax belongs to models"),
    ],
)
def test_planted_fault_is_found(tmp_path, file, source, expected):
    path = tmp_path / PACKAGE / file
    path.parent.mkdir(parents=True)
    path.write_text(source)
    faults = find_faults(tmp_path / PACKAGE)
    assert len(faults) == bool(expected)
    assert all(expected in fault for fault in faults)


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("diffusion/x.py", "import math, jax.numpy, imagen_jax.interfaces"),
        ("diffusion/x.py", "from . import schedule\nfrom .schedule import f"),
        ("models/x.py", "import flax.linen\nfrom imagen_jax.config import UNetConfig"),
        ("checkpoint.py", "import orbax.checkpoint\nimport imagen_jax.data"),
        ("embedding/__main__.py", "from imagen_jax.embedding import job"),
        ("train.py", "import imagen_jax.training.loop, imagen_jax.__version__"),
    ],
)
def test_allowed_import_is_not_a_fault(tmp_path, file, source):
    path = tmp_path / PACKAGE / file
    path.parent.mkdir(parents=True)
    path.write_text(source)
    assert find_faults(tmp_path / PACKAGE) == []


IMPORT_ALL = """
import importlib, pkgutil, sys

def forbid(event, args):
    if event.startswith("socket."):
        raise RuntimeError(f"{event} {args}")

sys.addaudithook(forbid)
import imagen_jax
print(sorted(name for name in sys.modules if name.startswith("imagen_jax")))
for module in pkgutil.walk_packages(imagen_jax.__path__, "imagen_jax."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print(sorted({"torch", "tensorflow", "transformers"} & set(sys.modules)))
"""


def test_importing_all_modules_opens_no_socket_and_loads_no_torch():
    result = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    package_alone, heavy = result.stdout.splitlines()
    assert package_alone == "['imagen_jax', 'imagen_jax.version']"
    assert heavy == "[]"
