"""Reports as pages: their text, and what a browser makes of it."""
