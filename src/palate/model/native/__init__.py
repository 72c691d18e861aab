"""Kernels in C++ for processors with AMX, compiled on first use; see `palate.model.native.build`."""
