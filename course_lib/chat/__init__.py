"""From a base model to an assistant: conversations, lessons, fine-tuning, the calculator, tasks, rewards.

Chapters 13 to 15 build it. Start with `rendering` (a chat as ids), then `packing` (as rows), `tasks` and
`reinforcement`.
"""
