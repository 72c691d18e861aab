"""What we export, read by TRL and datasets in an environment of their own."""
