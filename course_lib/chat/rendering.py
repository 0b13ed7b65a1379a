"""A conversation as ids: special tokens around each message, and a mask for what is trained.

Source: nanochat.

Exported from notebooks/13_conversations.ipynb; edit it there.
"""

from collections.abc import Sequence

from course_lib.chat.messages import check_messages, without_system
from course_lib.data.tokenizer import Tokenizer


def render_conversation(
    tokenizer: Tokenizer, messages: Sequence[dict], max_tokens: int = 2048
) -> tuple[list[int], list[int]]:
    """(ids, mask) of a conversation, cut after max_tokens.

    mask is 1 for what is trained: what the assistant writes, with its tool calls and
    <|assistant_end|>; 0 for a tool's output, and for what the user writes. Raises CourseError as
    `check_messages` does.
    """
    check_messages(messages)
    special, ids, mask = tokenizer.special, [tokenizer.bos], [0]

    def add(trained: int, *parts: str | int) -> None:
        for part in parts:
            new = tokenizer.encode(part) if isinstance(part, str) else [part]
            ids.extend(new)
            mask.extend([trained] * len(new))

    for message in without_system(messages):
        content = message["content"]
        if message["role"] == "user":
            add(0, special("<|user_start|>"), content, special("<|user_end|>"))
            continue
        add(0, special("<|assistant_start|>"))
        for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            if part["type"] == "text":
                add(1, part["text"])
            elif part["type"] == "python":
                add(1, special("<|python_start|>"), part["text"], special("<|python_end|>"))
            else:
                add(0, special("<|output_start|>"), part["text"], special("<|output_end|>"))
        add(1, special("<|assistant_end|>"))
    return ids[:max_tokens], mask[:max_tokens]
