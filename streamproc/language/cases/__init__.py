"""Rule tests: files of cases (given events, expected decisions) -> Structs. See docs/language/tests.md."""

from __future__ import annotations

__all__ = [
    "Case",
    "Expected",
    "Given",
    "Told",
    "Value",
    "case_files",
    "load_cases",
    "names_told",
    "read_cases",
    "time_text",
]

from streamproc.language.cases.load import case_files, load_cases, read_cases
from streamproc.language.cases.model import Case, Expected, Given, Told
from streamproc.language.cases.told import names_told
from streamproc.language.cases.values import Value, time_text
