"""Messages -> blocks of tokens, for tokenize_logs.py. Each module imports only those above it in this list.

chat            a chat as token ids and back; its format, its headers
encoder         the fastest encoders, for messages by the thousand
tokenizer       the tokenizer of a model, and the fastest encoder
chat_template   the chat as servers render and tokenize it
duplicates      messages that are said again and again
tables          the files that tokenize_logs.py reads: their columns, and their chats
rows            the rows of a file of messages, some at a time
splits          which blocks are for testing
packing         messages packed into blocks
token_bytes     the bytes of text that tokens stand for
text_size       the tokens and bytes of the text in blocks, by channel
dataset         blocks on disk: saved, loaded, checked, described
"""
