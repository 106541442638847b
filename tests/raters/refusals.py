"""Ways to run the raters command that its tests share."""

from imagen_jax.raters import __main__ as raters
from imagen_jax.raters import serving
from tests.commands.command import run
from tests.raters.studies import NO, YES, write_pairs, write_sets

TRUTH = [(150, YES)] * 4


def refuse(monkeypatch, capfd, *flags):
    """Runs a command that must end with one sentence; returns that."""

    def serve(app):
        raise AssertionError("it was served")

    monkeypatch.setattr(serving, "make_server", serve)
    status, said, err = run(monkeypatch, capfd, raters, *flags)
    assert status == 2
    assert said == ""
    assert len(err) == 1
    assert err[0].startswith("error: ")
    return err[0]


def make(folder, kind="quality", **settings):
    if kind == "drawbench":
        return write_sets(folder, {"Colors": [(150, YES), (90, NO)]}, **settings)
    return write_pairs(folder, kind, TRUTH, **{"num_controls": 0, **settings})
