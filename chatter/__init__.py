"""The concepts behind the four scripts, one a module. A module imports only those above it in this list.

command      InputError, the parser whose help is the docstring, types for numbers, log lines
files        atomic output, locks, and which folders may be replaced
dialects     the forms of log lines: what is a message, and what is not
reading      log files in chunks of whole lines, many side by side
moderation   timeouts and bans, and the messages that led to them
filters      which messages are left out
chat         a chat as tokens and back: tokenizer, encode, decode, fold
copies       the copy of a model's weights that CTranslate2 reads
engines      what generates tokens: CTranslate2 or transformers, and which one to take
models       a pretrained model made ready for chat
loss         labels, the mean loss over tokens, perplexity
checkpoints  complete checkpoints: mark, find, compare, delete
processes    the process group, DeepSpeed's config, and the libraries' errors in plain words
callbacks    what happens during training: progress, samples, checkpoints, stopping on Ctrl-C
report       model card, data card, learning curve
"""
