"""What a pipeline will cost before it runs: microseconds an event, bytes a key, hops.

    predict(plans, rate) -> Prediction

Costs are sums of measured units (`units`), each microseconds a call and a row; `costs.json` has them, from one machine,
made by `python -m benchmarks.costs`. Sizes of state follow from its layout alone.
"""

from streamproc.language.costing.predict import BATCH, predict
from streamproc.language.costing.prediction import KeyState, Prediction, StagePrediction, Work
from streamproc.language.costing.units import Cost, Costs, Units, shipped_costs

__all__ = [
    "BATCH",
    "Cost",
    "Costs",
    "KeyState",
    "Prediction",
    "StagePrediction",
    "Units",
    "Work",
    "predict",
    "shipped_costs",
]
