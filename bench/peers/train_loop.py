"""Train with a hand-written PyTorch loop: fused AdamW, autocast on a GPU, and torch.compile."""

import contextlib
import sys
import time

import numpy as np
import torch
from datasets import DatasetDict
from transformers import AutoConfig, AutoModelForCausalLM

model, dataset_dir, *sizes, precision = sys.argv[1:]
num_steps, batch_size, micro_batch_size = map(int, sizes)
device = "cuda" if torch.cuda.is_available() else "cpu"
blocks = DatasetDict.load_from_disk(dataset_dir)["train"].with_format("numpy")["input_ids"][:].astype(np.int64)
network = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model), dtype=torch.float32)
network.to(device).train()
compiled = torch.compile(network)
optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
scaler = torch.amp.GradScaler(device, enabled=precision == "fp16")
dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision)
half = torch.autocast(device, dtype) if dtype else contextlib.nullcontext()
order = np.random.default_rng(0).permutation(len(blocks))
accumulation = batch_size // micro_batch_size
then, clock = None, []
for step in range(1, num_steps + 1):
    batch = torch.from_numpy(blocks[order[np.arange(batch_size * (step - 1), batch_size * step) % len(order)]])
    for input_ids in batch.to(device).chunk(accumulation):
        with half:
            loss = compiled(input_ids=input_ids, labels=input_ids).loss / accumulation
        scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
    clock.append((time.perf_counter(), time.process_time()))
    if step % 10 == 0:
        if device == "cuda":
            torch.cuda.synchronize()
        now = time.perf_counter()
        print(f"tokens/s {10 * batch.numel() / (now - then) if then else 0:.0f}")  # the first stretch is left out
        then = now
wall, cpu = (1e3 * np.median(np.diff(each)) for each in np.transpose(clock[2:]))
print(f"a step: {wall:.1f} ms, {cpu:.1f} ms of CPU time")
if torch.cuda.is_available():
    print(f"peak of GPU memory: {torch.cuda.max_memory_allocated() / 1e9:.2f} GB")
