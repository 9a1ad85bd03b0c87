"""Train with transformers' Trainer and its defaults, like run_clm.py."""

import sys
import time

import torch
from datasets import DatasetDict
from transformers import AutoConfig, AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

model, dataset_dir, *sizes, precision, output_dir = sys.argv[1:]
num_steps, batch_size, micro_batch_size = map(int, sizes)
blocks = DatasetDict.load_from_disk(dataset_dir)["train"].select_columns(["input_ids"]).with_format("torch")
network = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model), dtype=torch.float32)
tokens_per_stretch = 10 * batch_size * len(blocks[0]["input_ids"])


def collate(rows: list[dict]) -> dict:
    input_ids = torch.stack([row["input_ids"] for row in rows]).long()
    return {"input_ids": input_ids, "labels": input_ids.clone()}


class Speed(TrainerCallback):
    """Prints the tokens per second of each stretch of 10 steps."""

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step % 10 == 0:
            now = time.perf_counter()
            if state.global_step > 10:
                print(f"tokens/s {tokens_per_stretch / (now - self.then):.0f}")
            else:
                print("tokens/s 0")  # the first stretch is left out
            self.then = now


settings = TrainingArguments(
    output_dir,
    per_device_train_batch_size=micro_batch_size,
    gradient_accumulation_steps=batch_size // micro_batch_size,
    max_steps=num_steps,
    fp16=precision == "fp16",
    bf16=precision == "bf16",
    use_cpu=not torch.cuda.is_available(),
    save_strategy="no",
    logging_steps=10,
    report_to="none",
)
Trainer(model=network, args=settings, train_dataset=blocks, data_collator=collate, callbacks=[Speed()]).train()
if torch.cuda.is_available():
    print(f"peak of GPU memory: {torch.cuda.max_memory_allocated() / 1e9:.2f} GB")
