"""From a recipe to a trained model: optimizers, the step, the loop, checkpoints, several processes.

Chapters 09 and 10 build it. Start with the loop, then `trainer` (one step), `muon` and `optim` (how weights move) and
`checkpoint` (what is kept). By hand, and explained in chapter 20: `distributed`, several processes at one model.
"""
