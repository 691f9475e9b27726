"""From history to a version in the registry: folds, metrics, search, calibration, threshold, export.

Plain arrays come in (`history.History`) and files go out; which payments they are, and which plan made the features, is
the command's business. Needs the extra `streamproc[train]`.
"""
