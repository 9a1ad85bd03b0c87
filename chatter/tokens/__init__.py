"""Messages -> blocks of tokens, for tokenize_logs.py. Each module imports only those above it in this list.

chat            a chat as token ids and back; its format, its headers
encoder         the fastest encoders, for messages by the thousand
tokenizer       the tokenizer of a model, and the fastest encoder
chat_template   the chat as servers render and tokenize it
splits          which blocks are for testing
packing         messages packed into blocks
dataset         blocks on disk: saved, loaded, checked, described
"""
