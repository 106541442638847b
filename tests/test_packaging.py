"""setup.py and constraints/: what is imported is declared, what is declared pinned."""

import importlib.metadata
import itertools
import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import imagen_jax

ROOT = Path(__file__).parent.parent
PINNED_EXTRAS = (
    "quickstart",
    "text",
    "text-hf",
    "eval",
    "dev",
    "oracle",
    "raters",
    "app",
    "browser",
    "cloud",
    "parquet",
    "emulators",
    "tpu",
)
CONSTRAINTS = sorted((ROOT / "constraints").glob("py*.txt"))


@pytest.fixture
def metadata(monkeypatch) -> dict[str, Any]:
    """What setup.py hands to setuptools, which need not be installed."""
    given = {}
    fake = SimpleNamespace(setup=given.update, find_packages=lambda include: include)
    monkeypatch.setitem(sys.modules, "setuptools", fake)
    runpy.run_path(str(ROOT / "setup.py"))
    return given


def all_requirements(metadata: dict[str, Any]) -> list[Requirement]:
    """Returns the core requirements and those of all extras."""
    lists = [metadata["install_requires"], *metadata["extras_require"].values()]
    return [Requirement(line) for line in itertools.chain(*lists)]


def read_pins(path: Path) -> dict[str, str]:
    """Returns version by canonical name; every line must be one exact pin."""
    lines = path.read_text().splitlines()
    pins = [line.split("==") for line in lines if not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pins}


def installed_needs(requirement: Requirement) -> Iterator[Requirement]:
    """Yields what an installed package needs in its turn, with the extras asked for."""
    for line in importlib.metadata.requires(requirement.name) or []:
        need = Requirement(line)
        extras = requirement.extras or {""}
        if not need.marker or any(need.marker.evaluate({"extra": e}) for e in extras):
            yield need


def test_version_has_one_definition(metadata):
    assert metadata["version"] == imagen_jax.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", imagen_jax.__version__)


def test_requirements_are_floors(metadata):
    for requirement in all_requirements(metadata):
        if requirement.name != "torch":  # its CPU build is found by exact version
            operators = [specifier.operator for specifier in requirement.specifier]
            assert operators == [">="], str(requirement)


def test_both_pythons_have_constraints():
    assert [path.name for path in CONSTRAINTS] == ["py311.txt", "py312.txt"]


@pytest.mark.parametrize("path", CONSTRAINTS, ids=lambda path: path.stem)
def test_constraints_pin_what_is_declared(metadata, path):
    pins = read_pins(path)
    declared = list(metadata["install_requires"])
    for extra in PINNED_EXTRAS:
        declared += metadata["extras_require"][extra]
    declared.append("libtpu>=0")  # what jax[tpu] brings
    for requirement in map(Requirement, declared):
        pin = pins.get(canonicalize_name(requirement.name))
        assert pin, f"{requirement.name} is not pinned"
        assert requirement.specifier.contains(pin), f"{requirement} but {pin} pinned"


def test_constraints_are_complete(metadata):
    """Packages that declared ones need, in this environment, are pinned too."""
    path = ROOT / "constraints" / "py{}{}.txt".format(*sys.version_info)
    if path not in CONSTRAINTS:
        pytest.skip(f"no constraints for Python {sys.version}")
    pins = read_pins(path)
    todo = list(map(Requirement, metadata["install_requires"]))
    for extra in ("quickstart", "dev"):
        todo += map(Requirement, metadata["extras_require"][extra])
    seen = set()
    while todo:
        requirement = todo.pop()
        assert canonicalize_name(requirement.name) in pins, f"{requirement} unpinned"
        if str(requirement) not in seen:
            seen.add(str(requirement))
            todo += installed_needs(requirement)


def test_imported_libraries_are_declared(metadata):
    """A library that comes only with another one would vanish with it."""
    declared = {canonicalize_name(r.name) for r in all_requirements(metadata)}
    owners = importlib.metadata.packages_distributions()
    imports = re.compile(r"^\s*(?:import|from)\s+(\w+)", re.MULTILINE)
    libraries = {
        name
        for path in (ROOT / "imagen_jax").rglob("*.py")
        for name in imports.findall(path.read_text())
    } - {*sys.stdlib_module_names, "imagen_jax"}
    undeclared = {
        name
        for name in libraries & set(owners)
        if not declared & {canonicalize_name(owner) for owner in owners[name]}
    }
    assert undeclared == set()


def test_license_is_apache():
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "Copyright 2026 The imagen_jax authors" in text
