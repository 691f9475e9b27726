"""A real browser without a window: screenshots, print, and what a page's own measurements say."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
import zlib
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
DARK, LIGHT = 0, 1


def browser() -> str:
    """Skips the test where there is none; CI must have one."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None and os.environ.get("CI") == "true":
        pytest.fail(f"no browser: none of {', '.join(NAMES)}")
    if found is None:
        pytest.skip("no browser; try: apt-get install chromium-headless-shell")
    return found


def run(page: Path, *options: str, scheme: int = LIGHT, size: tuple[int, int] = (1280, 900)) -> str:
    """What it prints on stdout."""
    command = [
        browser(), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage",
        f"--user-data-dir={page.parent / 'profile'}", f"--window-size={size[0]},{size[1]}",
        f"--blink-settings=preferredColorScheme={scheme}", *options, page.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def measured(page: Path, script: str, **how: Any) -> Any:
    """What `script`, the body of a function, gives in the page once it has run; `errors` are those of all scripts."""
    text = page.read_text()
    before = "<script>window.errors = []; addEventListener('error', (e) => errors.push(e.message));</script>"
    behind = f"<script>document.body.dataset.found = JSON.stringify((() => {{ {script} }})());</script>"
    copy = page.with_name(f"measured-{page.name}")
    copy.write_text(text.replace("<head>", f"<head>{before}").replace("</body>", f"{behind}</body>"))
    shown = run(copy, "--dump-dom", **how)
    found = re.search(r'data-found="([^"]*)"', shown)
    assert found is not None, shown[-2000:]
    return json.loads(unescape(found[1]))


def screenshot(page: Path, **how: Any) -> npt.NDArray[np.uint8]:
    """(rows, columns, 3)."""
    at = page.with_suffix(".png")
    run(page, f"--screenshot={at}", **how)
    return pixels(at.read_bytes())


def pixels(png: bytes) -> npt.NDArray[np.uint8]:
    """Of a PNG of 8 bits a channel, not interlaced."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    at, data, (width, height, depth, colour, *_, interlaced) = 33, b"", struct.unpack(">IIBBBBB", png[16:29])
    channels = {2: 3, 6: 4}[colour]
    assert (depth, interlaced) == (8, 0)
    while at < len(png):
        (size,) = struct.unpack(">I", png[at : at + 4])
        if png[at + 4 : at + 8] == b"IDAT":
            data += png[at + 8 : at + 8 + size]
        at += 12 + size
    lines = np.frombuffer(zlib.decompress(data), np.uint8).reshape(height, 1 + width * channels)
    image = np.zeros((height, width, channels), np.uint8)
    above = np.zeros((width, channels), np.int64)
    for row, line in enumerate(lines):
        above = _unfiltered(int(line[0]), line[1:].reshape(width, channels).astype(np.int64), above)
        image[row] = above
    return image[:, :, :3]


def _unfiltered(kind: int, line: npt.NDArray[np.int64], above: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    if kind == 0:
        return line
    if kind == 1:
        return np.cumsum(line, axis=0) % 256
    if kind == 2:
        return (line + above) % 256
    left, corner = [0] * line.shape[1], [0] * line.shape[1]
    found = []
    for values, up in zip(line.tolist(), above.tolist(), strict=True):
        guess = [
            (a + b) // 2 if kind == 3 else min((abs(b - c), 0, a), (abs(a - c), 1, b), (abs(a + b - 2 * c), 2, c))[2]
            for a, b, c in zip(left, up, corner, strict=True)
        ]
        left = [(value + one) % 256 for value, one in zip(values, guess, strict=True)]
        corner = up
        found.append(left)
    return np.array(found, np.int64)
