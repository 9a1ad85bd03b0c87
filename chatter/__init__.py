"""The concepts behind the four scripts, one a module. A module imports only those above it in this list.

cli          errors that the user can fix, log lines, options, exit codes
files        atomic output, locks, and what an output may replace
wording      what texts look like, and what must not be said
logs         logs of chat -> rows
hub          models on the Hugging Face hub, without long waits
tokens       messages -> blocks of tokens
devices      which device to take, and the refusals before anything is loaded
generation   a model and the chat so far -> the next message
models       a pretrained model made ready for chat
fused        fused kernels in place of many small ones: GELU, AdamW
adapters     LoRA: matrices beside the layers, trained and merged
loss         labels, the mean loss over tokens, perplexity
checkpoints  complete checkpoints: mark, find, compare, delete
processes    the process group, DeepSpeed's config, and the libraries' errors in plain words
memory       what a run will take, by count: GPU memory and host memory
plan         what a run is going to take, printed before it begins
callbacks    what happens during training: progress, samples, checkpoints, stopping, learning rates
report       model card, data card, learning curve
saving       the finished model: the best checkpoint, merged, with its format and report
"""
