"""Services: readers and writers of committed topics, and the generator."""
