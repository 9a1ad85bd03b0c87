"""Generate a message with transformers' pipeline, in the usual way."""

import sys

import torch
from transformers import pipeline

model, prompt, num_tokens = sys.argv[1:]
chat = pipeline("text-generation", model=model, dtype=torch.float32)
[message] = chat(
    prompt + "\n",
    max_new_tokens=int(num_tokens),
    do_sample=True,
    temperature=0.9,
    top_p=0.95,
    return_full_text=False,
)
print(message["generated_text"])
