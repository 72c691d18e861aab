"""Kernels in C++ for processors with AMX, compiled on first use (`native.build`)."""
