"""The map of the code: scripts stand on the package alone, and each of its modules on those listed before it."""

import ast
import doctest
import importlib

import numpy as np
import pytest
from conftest import ROOT, SCRIPTS

MODULES = sorted(path.stem for path in (ROOT / "chatter").glob("*.py") if path.stem != "__init__")
DOCSTRING = ast.get_docstring(ast.parse((ROOT / "chatter/__init__.py").read_text(encoding="utf-8")))
LISTED = [line.split()[0] for line in DOCSTRING.split("\n\n")[1].splitlines()]  # one line a module
SCRIPT_NAMES = {script.removesuffix(".py") for script in SCRIPTS}


def imports(path):
    """The modules that a file imports, anywhere in it, as dotted names: `from a import b` gives a and a.b."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def modules_of_package(path):
    return {name.split(".")[1] for name in imports(path) if name.startswith("chatter.")} & {*MODULES}


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_imports_no_other_script(script):
    assert not imports(ROOT / script) & SCRIPT_NAMES


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_no_script(module):
    assert not imports(ROOT / f"chatter/{module}.py") & SCRIPT_NAMES


def test_every_module_is_listed_once_in_the_docstring_of_the_package():
    assert sorted(LISTED) == MODULES


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_modules_listed_above_it(module):
    assert modules_of_package(ROOT / f"chatter/{module}.py") <= {*LISTED[: LISTED.index(module)]}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_is_used(module):
    """By a script, or by another module that one uses."""
    files = [*map(ROOT.joinpath, SCRIPTS), *(ROOT / f"chatter/{other}.py" for other in MODULES if other != module)]
    assert any(module in modules_of_package(path) for path in files)


@pytest.mark.parametrize(
    ("name", "most"), [(script, 350) for script in SCRIPTS] + [(f"chatter/{module}.py", 250) for module in MODULES]
)
def test_a_file_is_read_at_one_sitting(name, most):
    assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) <= most


@pytest.mark.parametrize("name", [*sorted(SCRIPT_NAMES), *(f"chatter.{module}" for module in MODULES)])
def test_examples_in_docstrings_are_right(name):
    module = importlib.import_module(name)
    assert doctest.testmod(module, extraglobs={"np": np}).failed == 0
