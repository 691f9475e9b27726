"""The pattern language: MATCH_RECOGNIZE's clauses as users know them, for `patterns:` of a stage and for SQL.

clauses.py: the text's clauses -> MatchClause     pattern.py: what stands in PATTERN ( ) -> a tree
references.py: DEFINE and MEASURES -> columns of rows, slots of runs, expressions over both
"""
