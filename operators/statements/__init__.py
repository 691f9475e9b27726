"""SQL statements of a pipeline: rows of a stage that go to a topic of the statement's own."""
