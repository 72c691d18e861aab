"""Instruction following: what a prompt asks of an answer's form, and whether the answer obeys.

The 25 instructions of IFEval (Zhou et al. 2023, arXiv 2311.07911), each checked by a program.
"""
