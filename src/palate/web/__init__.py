"""Web: what listens on a port; it reads the store and the folders of runs."""
