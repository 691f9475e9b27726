"""Cases that other systems' test suites decide, in our words: what goes in, what must come out, and where it stands."""
