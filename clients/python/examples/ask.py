"""Asks the engine a question and prints the answer as it comes: ask.py "What is the capital of France?" """

import sys

import tessera

question = sys.argv[1] if len(sys.argv) > 1 else "What is the capital of France?"
with tessera.connect() as engine:
    chat = [
        {"role": "system", "content": "You answer in one sentence."},
        {"role": "user", "content": question},
    ]
    answer = engine.chat(chat, tokens_max=64)
    for token in answer:
        print(token.text, end="", flush=True)
    if answer.end:
        print(f"\n[{answer.end.completion_tokens} tokens, {answer.end.reason}]")
