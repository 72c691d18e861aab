"""The two ends between which `benchmarks/capture.py` measures the capture proxy."""
