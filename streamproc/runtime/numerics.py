"""A fingerprint of this machine's floating-point results.

numpy's log, exp and asin differ in their last bits between CPU levels and versions. Two machines with one
fingerprint must agree on encoded decisions; with two, a difference is reported and never called corruption.
"""

from __future__ import annotations

__all__ = ["numerics_fingerprint"]

import hashlib

import numpy as np


def numerics_fingerprint() -> str:
    """Eight hex digits, equal where the transcendental kernels give equal bits."""
    probe = np.linspace(0.001, 0.999, 997)
    results = (np.log(probe), np.exp(probe), np.arcsin(probe), np.sin(probe * 7), np.cos(probe * 7), np.sqrt(probe))
    digest = hashlib.sha256(np.__version__.encode())
    for result in results:
        digest.update(result.tobytes())
    return digest.hexdigest()[:8]
