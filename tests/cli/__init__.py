"""The command line, from the outside: arguments in, lines and exit codes out."""
