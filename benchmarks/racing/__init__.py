"""The race against TRL, in parts; the command is benchmarks/race.py."""
