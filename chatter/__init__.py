"""The concepts behind the four scripts, one a module. A module imports only those above it in this list.

command      InputError, log lines, the parser whose help is the docstring, types for numbers
exits        how a command ends: exit codes, one line on stderr, signals, closed or full streams
files        atomic output, locks, and what an output may replace
lookalikes   invisible characters, and texts that look alike
wordlists    text files of users: names and words
hub          models on the Hugging Face hub, without long waits
dialects     the forms of log lines: what is a message, and what is not
reading      log files in chunks of whole lines, many side by side
moderation   timeouts and bans, and the messages that led to them
filters      which messages are left out
tables       CSVs of messages, whoever wrote them
chat         a chat as tokens and back: tokenizer, encode, decode
copies       the copy of a model's weights that CTranslate2 reads
engines      what generates tokens: CTranslate2 or transformers, and which one to take
models       a pretrained model made ready for chat
blocks       blocks of tokens on disk, loaded and checked
loss         labels, the mean loss over tokens, perplexity
checkpoints  complete checkpoints: mark, find, compare, delete
processes    the process group, DeepSpeed's config, and the libraries' errors in plain words
callbacks    what happens during training: progress, samples, checkpoints, stopping, learning rates
report       model card, data card, learning curve
"""
