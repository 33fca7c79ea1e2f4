"""The subcommands, one short file each: parse options, call core, print the result."""
