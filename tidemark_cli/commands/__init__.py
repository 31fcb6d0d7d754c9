"""The subcommands, one file each: parse, call the core, show."""
