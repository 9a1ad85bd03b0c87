"""The concepts behind the four scripts, one a module. A module imports only those above it in this list.

cli          errors that the user can fix, log lines, options, exit codes
files        atomic output, locks, and what an output may replace
wording      what texts look like, and what must not be said
logs         logs of chat -> rows
hub          models on the Hugging Face hub, without long waits
chat         a chat as tokens and back: tokenizer, encode, decode
channels     the header that says which channel a block is of, and which of them a model knows
packing      messages packed into blocks
devices      which device to take, and the refusals before anything is loaded
copies       the copy of a model's weights that CTranslate2 reads
engines      what generates tokens: CTranslate2 or transformers, and which one to take
models       a pretrained model made ready for chat
fused        fused kernels in place of many small ones: GELU, AdamW
adapters     LoRA: matrices beside the layers, trained and merged
blocks       blocks of tokens on disk, loaded and checked
loss         labels, the mean loss over tokens, perplexity
checkpoints  complete checkpoints: mark, find, compare, delete
processes    the process group, DeepSpeed's config, and the libraries' errors in plain words
memory       what a run will take, by count: GPU memory and host memory
plan         what a run is going to take, printed before it begins
callbacks    what happens during training: progress, samples, checkpoints, stopping, learning rates
report       model card, data card, learning curve
saving       the finished model: the best checkpoint, merged, with its format and report
"""
