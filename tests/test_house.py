"""The house rules: what review would otherwise have to say again and again."""

from __future__ import annotations

import ast
import asyncio
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest
from blockbuster import BlockingError

ROOT = Path(__file__).parents[1]
SHIPPED = ("streamproc", "operators", "models", "state")
MODULE_LINES_MAX = 400
FUNCTION_LINES_MAX = 50

# A path of one machine works on that machine only; a registry's address belongs to pip's or Maven's settings.
ONE_MACHINE = re.compile(r"(?<![\w./-])/(?:work|root|home/\w+)(?![\w-])")
REGISTRY = re.compile(
    r"pypi\.org|pythonhosted\.org|repo1?\.maven|maven\.org|--(?:extra-)?index-url|registry\.\w+\.\w+|docker\.io"
)
MAY_NAME_THEM = {"tests/test_house.py"}

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@cache
def tracked() -> tuple[str, ...]:
    """Every file git tracks that is still there, relative to the root."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return tuple(name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file())


def modules() -> list[Path]:
    return sorted(path for package in SHIPPED for path in (ROOT / package).rglob("*.py"))


def lines_without_docstring(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    if ast.get_docstring(function) is not None:
        docstring = function.body[0]
        lines -= (docstring.end_lineno or docstring.lineno) - docstring.lineno + 1
    return lines


def matches(pattern: re.Pattern[str]) -> list[str]:
    found = []
    for name in tracked():
        if name in MAY_NAME_THEM:
            continue
        try:
            text = (ROOT / name).read_text()
        except UnicodeDecodeError:
            continue
        found += [f"{name}:{number}" for number, line in enumerate(text.split("\n"), 1) if pattern.search(line)]
    return found


def test_a_module_fits_in_a_head() -> None:
    sizes = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in modules()}
    assert {name: size for name, size in sizes.items() if size > MODULE_LINES_MAX} == {}


def test_a_function_fits_on_a_screen() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name} has {lines} lines"
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, FUNCTIONS) and (lines := lines_without_docstring(node)) > FUNCTION_LINES_MAX
    ]
    assert long == []


def test_a_package_says_what_it_is() -> None:
    packages = [ROOT / name for name in tracked() if name.endswith("__init__.py")]
    silent = [str(path.relative_to(ROOT)) for path in packages if not ast.get_docstring(ast.parse(path.read_text()))]
    assert silent == []


def test_a_folder_of_modules_is_a_package() -> None:
    bare = {str(path.parent.relative_to(ROOT)) for path in modules() if not (path.parent / "__init__.py").exists()}
    assert bare == set()


def test_a_top_level_folder_says_what_it_is() -> None:
    folders = {name.split("/")[0] for name in tracked() if "/" in name and not name.startswith(".")}
    silent = [
        folder
        for folder in sorted(folders)
        if not (ROOT / folder / "README.md").exists() and not (ROOT / folder / "__init__.py").exists()
    ]
    assert silent == []


def test_no_path_of_one_machine() -> None:
    assert matches(ONE_MACHINE) == []


def test_no_registry_address() -> None:
    assert matches(REGISTRY) == []


def test_the_lock_pins_by_hash() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    pins = re.split(r"\n(?=[a-z0-9])", lock)
    assert [pin.split()[0] for pin in pins if "--hash=sha256:" not in pin] == []


@pytest.mark.xdist_group("house")
def test_tests_of_a_group_run_in_one_process(request: pytest.FixtureRequest) -> None:
    """By a name behind their ids; under a pytest that xdist does not know they lose it, and nobody says so."""
    assert request.node.nodeid.endswith("@house") or not request.config.getoption("loadgroup", default=False)


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("def f():\n    return 1\n", 2),
        ('def f():\n    """One.\n\n    Two.\n    """\n    return 1\n', 2),
        ("async def f(\n    a,\n):\n    await a\n", 4),
    ],
)
def test_a_functions_lines_are_counted_without_its_docstring(source: str, lines: int) -> None:
    function = ast.parse(source).body[0]
    assert isinstance(function, FUNCTIONS)
    assert lines_without_docstring(function) == lines


async def test_our_code_must_not_block_the_loop() -> None:
    as_if_ours = compile("import time; time.sleep(0)", str(ROOT / "streamproc" / "imagined.py"), "exec")
    with pytest.raises(BlockingError):
        exec(as_if_ours)
    await asyncio.to_thread(exec, as_if_ours)


@pytest.mark.blocking
async def test_an_exception_may_block_the_loop() -> None:
    exec(compile("import time; time.sleep(0)", str(ROOT / "streamproc" / "imagined.py"), "exec"))
