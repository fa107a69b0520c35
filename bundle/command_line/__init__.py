"""The command line: subcommands, their options, what they do and what they print."""
