"""What `desk_rlhf.py` runs and what it shows."""
