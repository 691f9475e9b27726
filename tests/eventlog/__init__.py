"""One set of contract tests for every event log, and what is special to each."""
