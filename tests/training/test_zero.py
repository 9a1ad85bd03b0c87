"""chatter.training.zero: DeepSpeed's config, and layers that ZeRO-3 fetches as one."""

import json

import pytest
from conftest import ROOT
from families import FAMILIES
from transformers import AutoConfig, AutoModelForCausalLM

from chatter.cli import InputError
from chatter.training.memory import BUCKET_SIZE, Mode
from chatter.training.model import add_adapters
from chatter.training.zero import PROJECT_CONFIG, complete_config, find_layers, read_config, without_placement

OFFLOADING = Mode(half=False)
RESIDENT = Mode(half=False, offload_param=False, offload_optimizer=False)


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(ROOT / "models/tiny-gpt2"))


def completed(model, mode, **zero):
    """Return the section zero_optimization for ds_config.json with changes."""
    config = read_config(ROOT / "ds_config.json")
    return complete_config(config | {"zero_optimization": config["zero_optimization"] | zero}, model, mode)[
        "zero_optimization"
    ]


def test_the_project_config_is_read_as_it_is():
    assert read_config(PROJECT_CONFIG) == json.loads((ROOT / "ds_config.json").read_text())


def test_what_the_config_leaves_open_is_made_fast(model):
    zero = completed(model, OFFLOADING)
    assert zero["leaf_module"] == {"classes": ["transformers.models.gpt2.modeling_gpt2.GPT2Block"]}
    assert zero["reduce_bucket_size"] == zero["stage3_prefetch_bucket_size"] == BUCKET_SIZE
    assert zero["offload_param"]["device"] == "cpu" and zero["stage3_param_persistence_threshold"] == "auto"


def test_no_optimizer_has_to_be_compiled(model):
    config = read_config(PROJECT_CONFIG)
    assert complete_config(config, model, OFFLOADING)["zero_force_ds_cpu_optimizer"] is False
    own = config | {"zero_force_ds_cpu_optimizer": True}
    assert complete_config(own, model, OFFLOADING)["zero_force_ds_cpu_optimizer"] is True
    assert "zero_force_ds_cpu_optimizer" not in complete_config(config, model, RESIDENT)


def test_what_the_config_says_is_kept(model):
    own = {"leaf_module": {"classes": []}, "reduce_bucket_size": 5, "stage3_param_persistence_threshold": 7}
    assert {name: completed(model, RESIDENT, **own)[name] for name in own} == own


@pytest.mark.parametrize("own", [{}, {"stage3_gather_16bit_weights_on_model_save": False}])
def test_checkpoints_have_whole_weights(own, model):
    """Otherwise the saved model has none."""
    config = {"zero_optimization": {"stage": 3} | own}
    completed = complete_config(config, model, RESIDENT)["zero_optimization"]
    assert completed["stage3_gather_16bit_weights_on_model_save"] is True
    assert complete_config({"zero_optimization": {"stage": 2}}, model, RESIDENT)["zero_optimization"] == {"stage": 2}


def test_without_offloading_nothing_is_offloaded_or_released(model):
    zero = completed(model, RESIDENT)
    assert zero["stage"] == 3 and not [name for name in zero if name.startswith("offload")]
    assert zero["stage3_param_persistence_threshold"] > 1e11
    several = Mode(half=False, offload_param=False, offload_optimizer=False, processes=2)
    assert completed(model, several)["stage3_param_persistence_threshold"] == "auto"


@pytest.mark.parametrize("name", FAMILIES)
def test_the_layers_of_each_family_are_found(name):
    network = AutoModelForCausalLM.from_config(AutoConfig.for_model(**FAMILIES[name].config))
    for model in network, add_adapters(network, 2):
        [layer] = find_layers(model)
        found = [each for each in model.modules() if f"{type(each).__module__}.{type(each).__qualname__}" == layer]
        assert len(found) == network.config.num_hidden_layers


def test_a_model_that_does_not_name_its_layers_has_no_leaves():
    class Plain:
        def modules(self):
            return iter([])

    assert find_layers(Plain()) == []


def test_the_placement_is_no_part_of_what_a_checkpoint_is_compared_by(model):
    config = read_config(PROJECT_CONFIG)
    offloading, resident = (complete_config(config, model, mode) for mode in (OFFLOADING, RESIDENT))
    assert offloading != resident and without_placement(offloading) == without_placement(resident)


@pytest.mark.parametrize("content", ["[]", "3", '{"train_batch_size": "auto"}', '{"zero_optimization": 3}'])
def test_a_config_without_zero_is_refused(content, tmp_path):
    (tmp_path / "plain.json").write_text(content)
    with pytest.raises(InputError, match=r"plain\.json has no section zero_optimization"):
        read_config(tmp_path / "plain.json")


def test_a_config_that_is_not_json_is_refused(tmp_path):
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(InputError, match=r"broken\.json is not valid JSON: "):
        read_config(tmp_path / "broken.json")
