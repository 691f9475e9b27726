"""The model registry, scoring, training and explanations."""

import os

# Unless this is there when it is imported, onnxruntime reports each session to its maker, under an id kept in $HOME.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
