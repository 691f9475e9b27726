"""Versions of models in a file that `what-if` is given, where records in the log say which ones were at work."""

from __future__ import annotations

__all__ = ["said_of_roles"]

from streamproc.cli.model_roles import Declared, read_roles
from streamproc.eventlog.contract import EventLog
from streamproc.language.live import roles_topic
from streamproc.language.model import Pipeline


async def said_of_roles(pipeline: Pipeline, log: EventLog) -> list[str]:
    """A line for each model whose versions in the file are others than those at work: they go by the log, so the file's
    change nothing.

    Raises:
        ConfigError: a record of roles is none.
        EventLogError: the log failed.
    """
    lines = []
    for name, model in pipeline.models.items():
        if (served := model.served) is None:
            continue
        where = served.address(pipeline.folder)
        declared = Declared(name, roles_topic(pipeline.pipeline), where, model.features, served.roles)
        roles, row = await read_roles(log, declared)
        if row is not None and roles != served.roles:
            version = served.version
            lines.append(
                f"model {name}: from the first `models activate` on, the versions are those that were at work, now "
                f"champion {roles.champion}, whatever the file says (to try version {version}, write "
                f"file: {served.registry}/{name}/{version}/model.onnx in the place of registry: and version:)"
            )
    return lines
