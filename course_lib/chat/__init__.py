"""From a base model to an assistant: conversations, lessons, fine-tuning, the calculator, tasks.

Chapters 13 and 14 build it. Start with `conversation` (a chat as ids), then `packing` (as batches) and `tasks`.
"""
