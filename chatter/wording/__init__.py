"""Lookalike texts, banned words and copies of training messages. Each module imports only those above it in this list.

lookalikes           invisible characters, and texts that look alike
banned               banned words, however they are written
training_messages    hashes of the messages that a model was trained on, which it should not repeat
"""
