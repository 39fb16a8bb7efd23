"""Which of these texts is nearest to the question, by their embeddings (needs numpy)."""

import sys

import tessera

texts = ["list all files", "remove a folder", "how warm is it in Paris?", "show free disk space"]
question = sys.argv[1] if len(sys.argv) > 1 else "delete a directory"
with tessera.connect() as engine:
    vectors = engine.embed([question, *texts])
nearness = vectors[1:] @ vectors[0]  # each is of length 1
for i in nearness.argsort()[::-1]:
    print(f"{nearness[i]:.3f}  {texts[i]}")
