"""Blocks -> a fine-tuned model, for train.py. Each module imports only those above it in this list.

loss            labels, the mean loss over tokens, perplexity
model           a pretrained model made ready for chat; LoRA, fused kernels
settings        TrainingArguments, precision, DeepSpeed's config
run             a run of train.py: its inputs, settings and outputs
checkpoints     complete checkpoints: mark, find, compare, delete
plan            the memory and disk that a run takes, estimated before it begins
callbacks       progress, samples, checkpoints, stopping, learning rates
saving          the finished model, with its card and learning curve
distributed     the process group, and errors of libraries in plain words
"""
