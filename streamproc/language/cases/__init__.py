"""Rule tests: files of cases (given events, expected decisions) -> Structs. See docs/language/tests.md."""

from __future__ import annotations

__all__ = ["Case", "Expected", "Given", "Value", "case_files", "load_cases", "read_cases", "time_text"]

from streamproc.language.cases.load import case_files, load_cases, read_cases
from streamproc.language.cases.model import Case, Expected, Given
from streamproc.language.cases.values import Value, time_text
