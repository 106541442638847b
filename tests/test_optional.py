import sys

import pytest

from imagen_jax.errors import UserError
from imagen_jax.optional import import_optional


def test_a_missing_package_names_the_extra():
    with pytest.raises(UserError, match=r"no_such_package.*imagen_jax\[quickstart\]"):
        import_optional("no_such_package.part", "quickstart")


def test_an_installed_module_is_returned():
    assert import_optional("json.decoder", "quickstart") is sys.modules["json.decoder"]


def test_a_broken_package_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "broken_package.py").write_text("import no_such_dependency\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_dependency"):
        import_optional("broken_package", "quickstart")
