"""One method, one file: pure functions of log-probs, and the registry that names them."""
