"""An n-gram model with interpolated Kneser-Ney smoothing, over tokens, words or letters."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence

BORDER = ()  # stands before the first symbol of a text, and equals no symbol


class KneserNey:
    """Interpolated Kneser-Ney n-grams with one discount per order (Chen and Goodman, 1998).

    At the highest order it counts n-grams; at each lower order, the different symbols that an n-gram follows.
    `unseen(symbol)` is the probability of a symbol before anything is known about its context.
    """

    def __init__(self, texts: Iterable[Sequence[Hashable]], order: int, unseen: Callable[[Hashable], float]) -> None:
        self.order, self.unseen = order, unseen
        counts = [Counter() for _ in range(order)]  # of n-grams of length 1, 2, ...
        for text in texts:
            symbols = (*[BORDER] * (order - 1), *text)
            counts[-1].update(zip(*(symbols[place:] for place in range(order)), strict=False))
        for longer, shorter in zip(counts[:0:-1], counts[-2::-1], strict=True):
            shorter.update(ngram[1:] for ngram in longer)
        self.followers = [defaultdict(dict) for _ in counts]  # by length of the context: context -> symbol -> count
        for ngrams, followers in zip(counts, self.followers, strict=True):
            for ngram, count in ngrams.items():
                followers[ngram[:-1]][ngram[-1]] = count
        self.totals = [{context: sum(of.values()) for context, of in each.items()} for each in self.followers]
        ones_and_twos = [[sum(count == n for count in ngrams.values()) for n in (1, 2)] for ngrams in counts]
        self.discounts = [one / max(one + 2 * two, 1) for one, two in ones_and_twos]

    def probability(self, context: tuple, symbol: Hashable) -> float:
        """Return the probability of a symbol after a context of `order` - 1 symbols."""
        p = self.unseen(symbol)
        for length, (followers, totals, discount) in enumerate(
            zip(self.followers, self.totals, self.discounts, strict=True)
        ):
            shortened = context[len(context) - length :]
            known = followers.get(shortened)
            if known is None:
                break
            p = (max(known.get(symbol, 0) - discount, 0) + discount * len(known) * p) / totals[shortened]
        return p

    def bits(self, text: Sequence[Hashable]) -> list[float]:
        """Return the bits that each symbol of a text costs: -log2 of its probability after the symbols before it."""
        symbols = (*[BORDER] * (self.order - 1), *text)
        contexts = (symbols[place : place + self.order - 1] for place in range(len(text)))
        return [-math.log2(self.probability(*pair)) for pair in zip(contexts, text, strict=True)]

    def sample(self, end: Hashable, rng: random.Random, before: Sequence[Hashable] = ()) -> list[Hashable]:
        """Sample a text that comes after the symbols `before`, up to the symbol `end`, without it.

        Each symbol follows the longest known context, which is shortened with the probability of backing off.
        """
        text = [*[BORDER] * (self.order - 1), *before]
        first = len(text)
        while len(text) == first or text[-1] != end:
            for length in range(self.order - 1, -1, -1):
                context = tuple(text[len(text) - length :])
                known = self.followers[length].get(context)
                backs_off = (
                    known is None or rng.random() < self.discounts[length] * len(known) / self.totals[length][context]
                )
                if length == 0 or not backs_off:
                    known = known or self.followers[0][()]
                    weights = [max(count - self.discounts[length], 1e-9) for count in known.values()]
                    text += rng.choices([*known], weights)
                    break
        return text[first:-1]
