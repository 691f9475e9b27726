"""How versions of a model do in production: counts of what they were given, scored and were right about. Pure."""
