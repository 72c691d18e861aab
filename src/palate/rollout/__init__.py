"""Learning from own samples: draw answers, have them judged, give credit, and hand out steps.

One prompt's way: `prompts` (its turn) → `drawing` (answers) → `judging` (rewards) → `learning`
(what is learned from them) → `crediting` (advantages) → `source` (steps of the training loop).
"""
