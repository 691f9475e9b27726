"""An evaluation as one HTML page: pure, from plain data to text. The page asks for nothing from outside."""
