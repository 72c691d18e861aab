"""The model: loading, adapters, tree attention, branch log-probs, and the start-up probe."""

import logging

# peft imports bitsandbytes wherever it is installed, which then warns about an optional kernel.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
