"""Red-teaming: attack prompts, who decides what succeeded, over-refusal beside it, and the cure."""
