"""How good decisions are: numbers over columns of what was decided and what became known of it. Pure.

Depends on `models.training.metrics` for what models are judged by, too.
"""
