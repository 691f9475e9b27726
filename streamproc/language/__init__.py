"""What analysts write, checked and turned into a plan.

load_pipeline(path) -> Pipeline;  compile_stages(pipeline) -> Plans;  explain(plan) -> text.
"""

from __future__ import annotations

__all__ = [
    "Pipeline",
    "PipelineError",
    "compile_pipeline",
    "compile_stages",
    "explain",
    "load_pipeline",
    "read_pipeline",
]

from streamproc.language.compile import compile_pipeline, compile_stages
from streamproc.language.explain import explain
from streamproc.language.load import load_pipeline, read_pipeline
from streamproc.language.model import Pipeline
from streamproc.language.problems import PipelineError
