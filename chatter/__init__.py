"""What the four scripts are made of, a room a line. A room imports only those above it in this list.

cli           errors that the user can fix, log lines, options, exit codes
files         atomic output, locks, and what an output may replace
gpu           the GPU as torch sees it
devices       which GPU to take, and refusals before anything is loaded
hub           models on the Hugging Face hub, without long waits
wording       what texts look like, and what must not be said
logs          logs of chat -> rows, for parse_logs.py
tokens        messages -> blocks of tokens, for tokenize_logs.py
generation    a model and the chat so far -> the next message, for generate.py
training      blocks -> a fine-tuned model, for train.py
"""
