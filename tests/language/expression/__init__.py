"""The expression language: parser, types, kernels; DuckDB is the judge."""
