"""Windows over what other windows gave: lost state comes back by a replay, and decides on as if nothing had been."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tests.cli.conftest import PIPELINE, Cli, finish, payments
from tests.cli.test_round_trip import ndjson

CHAINED = """\
  busy: {count: "*", over: 24h, where: spend_count_1h >= 2}
  rise: amount - previous(spend_sum_1h)
  abroad: country <> 'be'
"""


def decided(cli: Cli, pipeline: Path, folder: Path, parts: list[list[dict[str, Any]]], *, lose: bool) -> list[str]:
    log, state = f"file:{folder}/log", folder / "state"
    for number, part in enumerate(parts):
        path = ndjson(folder / f"{number}.ndjson", part)
        assert cli("feed", "payments", path, "--pipeline", pipeline, "--log", log).code == 0
        if lose:
            shutil.rmtree(state, ignore_errors=True)
        ran = finish("run", pipeline, "--log", log, "--state", state, "--until-end", "--log-level", "error")
        assert (ran.code, ran.err) == (0, "")
    return cli("tail", "features", "--pipeline", pipeline, "--log", log, "--until-end").lines


def test_windows_over_windows_survive_the_loss_of_the_state(cli: Cli, pipeline: Path, tmp_path: Path) -> None:
    pipeline.write_text(PIPELINE.replace("  abroad: country <> 'be'\n", CHAINED, 1))
    parts = [payments(60, seed, 60 * seed) for seed in range(3)]
    found = []
    for name, lose in (("kept", False), ("lost", True)):
        (tmp_path / name).mkdir()
        lines = decided(cli, pipeline, tmp_path / name, parts, lose=lose)
        found.append(sorted((json.loads(line) for line in lines), key=lambda row: (row["offset"], row["payment_id"])))
    assert found[0] == found[1]
    assert {row["busy"] for row in found[0]} > {0, 1, 2}
