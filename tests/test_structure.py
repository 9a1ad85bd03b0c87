"""The map of the code: scripts stand on the package alone, and each of its modules on those listed before it."""

import ast
import doctest
import importlib

import numpy as np
import pytest
from conftest import ROOT, SCRIPTS

from chatter.generation.choose_engine import ENGINES

PACKAGE = ROOT / "chatter"
SCRIPT_NAMES = {script.removesuffix(".py") for script in SCRIPTS}
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def listed(room):
    """The names that the docstring of a package lists, one a line, each with what it is for; a folder's in its own."""
    docstring = ast.get_docstring(ast.parse((room / "__init__.py").read_text(encoding="utf-8")))
    names = []
    for line in docstring.split("\n\n")[1].splitlines():
        path = room / line.split()[0]
        names += [".".join(path.relative_to(ROOT).parts)] if not path.is_dir() else [*listed(path)]
    return [*names, ".".join(room.relative_to(ROOT).parts)]


LISTED = listed(PACKAGE)


def imports(path):
    """The modules that a file imports anywhere: `from a import b` gives a.b if that is a module, or else a."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                names.add(submodule if submodule in MODULES else node.module)
    return names


def modules_of_package(path):
    return imports(path) & MODULES.keys()


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_imports_no_other_script(script):
    assert not imports(ROOT / script) & SCRIPT_NAMES


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_no_script(module):
    assert not imports(MODULES[module]) & SCRIPT_NAMES


def test_every_module_is_listed_once_in_the_docstring_of_its_package():
    assert sorted(LISTED) == sorted(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_modules_listed_above_it(module):
    """Rooms come in the order of the package's docstring, and the modules of a room in the order of its own."""
    assert modules_of_package(MODULES[module]) <= {*LISTED[: LISTED.index(module)]}


@pytest.mark.parametrize("module", [name for name in MODULES if MODULES[name].name != "__init__.py"])
def test_a_module_is_used(module):
    """By a script, or by another module; engines are imported by name."""
    files = [*map(ROOT.joinpath, SCRIPTS), *(path for other, path in MODULES.items() if other != module)]
    engines = {f"chatter.generation.{name}_engine" for name in ENGINES}
    assert module in engines or any(module in modules_of_package(path) for path in files)


@pytest.mark.parametrize(
    ("path", "most"), [(ROOT / name, 300) for name in SCRIPTS] + [(p, 250) for p in MODULES.values()]
)
def test_a_file_is_read_at_one_sitting(path, most):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= most


@pytest.mark.parametrize("name", [*sorted(SCRIPT_NAMES), *MODULES])
def test_examples_in_docstrings_are_right(name):
    module = importlib.import_module(name)
    assert doctest.testmod(module, extraglobs={"np": np}).failed == 0
