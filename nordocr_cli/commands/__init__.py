"""The subcommands: one thin file each; flags in, profile, core, print."""
