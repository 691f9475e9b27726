"""What only the embedded log can do wrong: processes, kills, damaged files."""
