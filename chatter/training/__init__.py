"""Blocks -> a fine-tuned model, for train.py. Each module imports only those above it in this list.

loss            labels, the mean loss over tokens, perplexity, bits per byte
base            the weights that adapters belong to, recognized by a digest
metadata        what other programs read of a model: its config, sampling, tokenizer and chat template
model           a pretrained model made ready for chat; LoRA, fused kernels
distributed     the process group: join it, leave it, also after an error
library_errors  errors of the libraries in plain words
restart         start again with options that take less memory
memory          the memory that a run takes, estimated
zero            DeepSpeed's config; leaf modules and buckets, which make ZeRO-3 fast
placement       the micro-batch and the offloading that fit the GPU
speed           model FLOPs utilization, durations
settings        TrainingArguments, learning rate, precision, optimizer
run             a run of train.py: its inputs, settings and outputs
checkpoints     complete checkpoints: mark, check, find, delete
outputs         what a run may replace
resume          the checkpoint that a run continues from, and what both must have in common
plan            what a run takes, printed before it begins
callbacks       progress, samples, checkpoints, stopping, learning rates
report          the model card, metrics, learning curve
saving          the finished model: the best checkpoint as other programs read it
"""
