"""The shape of gpt2-medium in half precision, with micro-batches of 8 x 512 tokens."""

from chatter.training.memory import Shape

MEDIUM = Shape(
    parameters=354_300_000,
    trained=354_300_000,
    layers=24,
    width=1024,
    vocabulary=50_258,
    tokens=8 * 512,
    activations=34.7 * 24 * 1024,
)
