"""Several adapters over one base: each row is what the merged model computes for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tests.tiny import VOCABULARY, tiny_model

from palate.model.many_adapters import ManyAdapters

LINEAR = ["q_proj", "v_proj", "o_proj", "gate_proj", "down_proj"]


def save_adapter(folder: Path, seed: int, targets: list[str] = LINEAR, **more: Any) -> Path:
    """A random adapter of rank 3 whose second factor is not 0."""
    config = LoraConfig(r=3, lora_alpha=6, target_modules=targets, task_type="CAUSAL_LM", **more)
    adapted = get_peft_model(tiny_model(), config)
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.normal_(0, 0.3)
    adapted.save_pretrained(folder)
    return folder


def merged(folder: Path) -> Any:
    return PeftModel.from_pretrained(tiny_model(), folder).merge_and_unload()


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """The second has fewer layers, and a scale of its own."""
    return [
        save_adapter(tmp_path / "a", 1),
        save_adapter(tmp_path / "b", 2, ["q_proj", "up_proj"], use_rslora=True),
    ]


def hidden(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state


def test_all_rows_under_one_adapter_are_the_merged_models(folders: list[Path]) -> None:
    model, ids = tiny_model(), torch.randint(0, VOCABULARY, (3, 9))
    plain = hidden(model, ids)
    adapters = ManyAdapters(model, folders)
    assert torch.equal(hidden(model, ids), plain)  # no adapter is in use
    found = []
    for number, folder in enumerate(folders, 1):
        with adapters.rows(np.full(27, number)):
            found.append(hidden(model, ids))
        torch.testing.assert_close(found[-1], hidden(merged(folder), ids), atol=1e-4, rtol=1e-4)
    with adapters.rows(np.zeros(27, dtype=np.int64)):
        assert torch.equal(hidden(model, ids), plain)
    assert (found[0] - plain).abs().max() > 0.1
    assert (found[0] - found[1]).abs().max() > 0.1


def test_each_row_is_under_its_own(folders: list[Path]) -> None:
    """Rows of an MLP do not look at each other, so that rows of one forward can differ."""
    model = tiny_model()
    adapters = ManyAdapters(model, folders)
    models = [tiny_model(), *(merged(folder) for folder in folders)]
    x = torch.randn(1, 7, 32)
    which = np.array([0, 2, 1, 1, 0, 2, 0])
    with torch.no_grad(), adapters.rows(which):
        found = model.model.layers[1].mlp(x)
    for row, number in enumerate(which.tolist()):
        with torch.no_grad():
            expected = models[number].model.layers[1].mlp(x)[:, row]
        torch.testing.assert_close(found[:, row], expected, atol=1e-4, rtol=1e-4)


def test_nothing_is_trained(folders: list[Path]) -> None:
    model = tiny_model()
    ManyAdapters(model, folders)
    assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"bias": "all"}, "more than LoRA"),
        ({"modules_to_save": ["lm_head"]}, "more than LoRA"),
        ({"use_dora": True}, "beside others"),
    ],
)
def test_what_is_not_plain_lora_is_refused(tmp_path: Path, more: Any, words: str) -> None:
    folder = save_adapter(tmp_path / "odd", 1, **more)
    with pytest.raises(ValueError, match=words):
        ManyAdapters(tiny_model(), [folder])


def test_an_adapter_of_the_embedding_is_refused(tmp_path: Path) -> None:
    folder = save_adapter(tmp_path / "odd", 1, ["embed_tokens", "q_proj"])
    with pytest.raises(ValueError, match="Embedding cannot be served"):
        ManyAdapters(tiny_model(), [folder])


def test_an_adapter_of_the_output_head_is_refused(tmp_path: Path) -> None:
    folder = save_adapter(tmp_path / "odd", 1, ["q_proj", "lm_head"])
    with pytest.raises(ValueError, match=r"output head cannot be served .* RUN/model"):
        ManyAdapters(tiny_model(), [folder])


def test_a_folder_without_an_adapter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no adapter"):
        ManyAdapters(tiny_model(), [tmp_path])
