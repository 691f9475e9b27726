"""The shipped pipelines on public data that lies beside a checkout; skipped where it does not."""
