"""SQL statements: what DuckDB says of the same statement on the same file is what ours must say."""
