"""The modules and packages behind the four scripts. Each imports only those above it in this list.

interrupt     signals that end a script, also while it loads
cli           errors that the user can fix, log lines, options, exit codes
workers       calls shared among processes or threads
files         atomic output, locks, and what an output may replace
text_files    text files in UTF-8, or in UTF-16 with a byte order mark
gpu           the GPU as torch sees it
devices       the device to use; unusable GPUs are rejected before anything is loaded
hub           models on the Hugging Face hub, with short timeouts
cards         README.md of models and datasets
wording       lookalike texts, banned words, copies of training messages
logs          logs of chat -> rows, for parse_logs.py
tokens        messages -> blocks of tokens, for tokenize_logs.py
generation    a model and the chat so far -> the next message, for generate.py
training      blocks -> a fine-tuned model, for train.py
"""
