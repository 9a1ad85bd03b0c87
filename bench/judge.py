"""Tell two kinds of messages apart with a classifier that does not know them. For quality_judge.py.

Reads   a JSON file: {name: [messages of one kind, messages of the other]}, as many of each
Writes  on stdout, {name: [number of messages whose kind was guessed right, number of messages]}

The classifier is a logistic regression on n-grams of words and of characters. Equal messages, whatever their kind,
are all in the same fold, so that it is never asked about a message that it was trained on. It needs scikit-learn:

    python bench/judge.py pairs.json
"""

import json
import sys
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline, make_union
from threadpoolctl import threadpool_limits

NUM_FOLDS = 5


def frame(message: str) -> str:
    """Mark the beginning and the end of a message, for the n-grams of characters."""
    return f"\n{message}\n"


def normalize(message: str) -> str:
    """Return what equal messages have in common: case and blanks do not count."""
    return " ".join(message.casefold().split())


def make_folds(messages: list[str], labels: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the numbers of the messages to train on and to test on, for each fold."""
    groups = [*map(normalize, messages)]
    folds = StratifiedGroupKFold(min(NUM_FOLDS, len({*groups})), shuffle=True, random_state=0)
    return [*folds.split(messages, labels, groups)]


def judge(first: list[str], second: list[str]) -> tuple[int, int]:
    """Return how many messages were guessed right, and how many there are."""
    messages, labels = [*first, *second], np.repeat([0, 1], [len(first), len(second)])
    words = TfidfVectorizer(token_pattern=r"\S+", ngram_range=(1, 2), lowercase=False, sublinear_tf=True)
    letters = TfidfVectorizer(
        analyzer="char", ngram_range=(1, 4), lowercase=False, sublinear_tf=True, preprocessor=frame
    )
    classifier = LogisticRegression(C=10, class_weight="balanced", max_iter=1000)
    model = make_pipeline(make_union(words, letters), classifier)
    texts, guesses = np.array(messages, object), np.empty_like(labels)
    with threadpool_limits(1):  # its products are small, and threads would wait for each other
        for train, test in make_folds(messages, labels):
            if len({*labels[train]}) == 1:  # all messages of the other kind are equal, and in this fold
                guesses[test] = labels[train][0]
            else:
                guesses[test] = model.fit(texts[train], labels[train]).predict(texts[test])
    return int((guesses == labels).sum()), len(labels)


if __name__ == "__main__":
    pairs = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    print(json.dumps({name: judge(*pair) for name, pair in pairs.items()}))
