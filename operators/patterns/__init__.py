"""Sequence patterns: rows of one key, one after the other, that together say something no single row says.

text --(streamproc.language.patterns)--> tree.py --(nfa.py)--> Program
rows --(operator.py)--> rows that may begin or bring on a run --(matcher.py)--> matches --> columns
"""
