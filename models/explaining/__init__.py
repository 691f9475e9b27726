"""Why a model gave a score: exact contributions of each feature, from the very file that scores.

`wire`, `graph`: what an ONNX file says, read with bounds; `trees`: an ensemble as a flat, validated table; `shapley`:
TreeSHAP over many rows at once; `linear`; `explainer`: a file -> what explains its scores.
"""
