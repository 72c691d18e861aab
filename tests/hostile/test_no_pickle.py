"""Nothing in the source can read or write a pickle, run text as code, or fetch code with a model.

The syntax tree is looked at, so that a word in a docstring does not count.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

SRC = Path(__file__).resolve().parents[2] / "src" / "palate"
FILES = sorted(SRC.rglob("*.py"))

MODULES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "jsonpickle", "shelve", "joblib"}
MODULES |= {"marshal"}
NAMES = {"torch_load", "read_pickle", "to_pickle", "PyExtensionType"}
NAMES |= {"unsafe_load", "unsafe_load_all", "full_load", "full_load_all"}
NAMES |= {"UnsafeLoader", "FullLoader"}
# torch.distributed.checkpoint: the index of its own files is pickled
NAMES |= {"FileSystemWriter", "FileSystemReader"}
# torch.distributed: objects travel as pickles
NAMES |= {"all_gather_object", "gather_object", "broadcast_object_list", "scatter_object_list"}
NAMES |= {"send_object_list", "recv_object_list"}
# peft: takes adapter_model.bin, and follows the config to other models
NAMES |= {"load_peft_weights", "AutoPeftModelForCausalLM"}
CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "yaml.Loader"}
CALLS |= {"torch.load", "torch.save", "torch.jit.load", "torch.jit.save", "torch.hub.load"}
CALLS |= {"torch.export.load", "torch.package.PackageImporter"}
CALLS |= {"dcp.save", "dcp.load", "dcp.async_save", "multiprocessing.connection"}
SAFE_LOADERS = {"Loader", "_Loader"}
BETWEEN_RANKS = {"train/shard_files.py": {"dist.all_gather_object", "dist.broadcast_object_list"}}
"""Names and checksums from rank to rank of one job, whose memory they share anyway; no files."""
ADAPTERS = {"model/adapters.py", "model/many_adapters.py", "model/saved_adapter.py"}
"""Where an adapter may be opened: after `palate.model.foreign.lora_config` has looked at it."""


def findings(tree: ast.AST, name: str = "") -> Iterator[str]:
    """What is wrong with a file, a line each."""
    for node in ast.walk(tree):
        found = _imported(node) if isinstance(node, ast.Import | ast.ImportFrom) else _used(node)
        found = [one for one in found if one not in BETWEEN_RANKS.get(name, ())]
        if isinstance(node, ast.Call):
            found = [*found, *_call(node, name)]
        yield from (f"line {getattr(node, 'lineno', 0)}: {one}" for one in found)


def _imported(node: ast.Import | ast.ImportFrom) -> list[str]:
    before = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
    return [
        before + alias.name
        for alias in node.names
        if (before + alias.name).partition(".")[0] in MODULES
        or before + alias.name in CALLS
        or alias.name in NAMES
    ]


def _used(node: ast.AST) -> list[str]:
    """A name of the lists, called or not."""
    if not isinstance(node, ast.Attribute | ast.Name):
        return []
    text = ast.unparse(node)
    read = isinstance(node.ctx, ast.Load)  # a setting may be called `compile`
    return [text] if (read and text in CALLS) or text.rpartition(".")[2] in NAMES else []


def _call(node: ast.Call, name: str) -> Iterator[str]:
    called = ast.unparse(node.func)
    options = {o.arg: ast.unparse(o.value) for o in node.keywords if o.arg}
    last = called.rpartition(".")[2]
    if options.get("allow_pickle", "False") != "False":
        yield "allow_pickle"
    if (
        called in {"np.load", "numpy.load", "np.save", "numpy.save"}
        and "allow_pickle" not in options
    ):
        yield f"{called} without allow_pickle=False"
    if "weights_only" in options:
        yield "weights_only: a pickle all the same"
    if called == "yaml.load":
        given = options.get("Loader") or (ast.unparse(node.args[1]) if len(node.args) > 1 else "")
        if given not in SAFE_LOADERS:
            yield f"yaml.load with {given or 'no loader'}"
    if options.get("trust_remote_code") == "True":
        yield "trust_remote_code=True"
    if last == "from_pretrained" and name:
        yield from _opened(called, options, name)


def _opened(called: str, options: dict[str, str], name: str) -> Iterator[str]:
    """What `from_pretrained` may be of: configs, tokenizers told not to trust, safetensors."""
    kind = called.rpartition(".")[0]
    if kind in {"GenerationConfig", "LoraConfig"}:
        return
    if kind == "PeftModel":
        if name not in ADAPTERS or "config" not in options:
            yield "an adapter that nobody has looked at"
    elif "gguf_file" in options:
        return
    elif "trust_remote_code" not in options:
        yield f"{called} without trust_remote_code: it asks on the terminal"
    elif kind not in {"AutoTokenizer", "AutoConfig"} and options.get("use_safetensors") != "True":
        yield f"{called} without use_safetensors=True"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SRC)))
def test_nothing_is_pickled_or_run(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not list(findings(tree, path.relative_to(SRC).as_posix()))


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "import pickle as p",
        "from pickle import loads",
        "import multiprocessing.connection",
        "import torch as t\nfrom torch import load",
        "torch.load(p)",
        "f = torch.save",
        "torch.jit.load(p)",
        "pd.read_pickle(p)",
        "np.load(p)",
        "np.load(p, allow_pickle=True)",
        "numpy.load(p, allow_pickle=wanted)",
        "read(p, weights_only=False)",
        "yaml.load(text)",
        "yaml.load(text, yaml.Loader)",
        "yaml.load(text, Loader=yaml.FullLoader)",
        "yaml.unsafe_load(text)",
        "eval(text)",
        "exec(text)",
        "dist.all_gather_object(a, b)",
        "from torch.distributed.checkpoint import FileSystemWriter",
        "dcp.FileSystemReader(p)",
        "dcp.save(state, checkpoint_id=p)",
        "AutoConfig.from_pretrained(p)",
        "AutoModelForCausalLM.from_pretrained(p, trust_remote_code=False)",
        "AutoTokenizer.from_pretrained(p, trust_remote_code=True)",
        "PeftModel.from_pretrained(base, p)",
    ],
)
def test_each_way_would_be_found(code: str) -> None:
    assert list(findings(ast.parse(code), "somewhere.py"))


def test_what_is_safe_is_not_found() -> None:
    code = '''
"""torch.load and pickle, in words."""
kept = np.load(path, mmap_mode="r", allow_pickle=False)
found = yaml.load(text, Loader)
model = kind.from_pretrained(p, trust_remote_code=trust, use_safetensors=True)
'''
    assert not list(findings(ast.parse(code), "somewhere.py"))


def test_chat_templates_are_rendered_in_one_place() -> None:
    """transformers renders them in this process, without a limit on time or memory."""
    found = {
        path.relative_to(SRC).as_posix()
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and node.attr in {"apply_chat_template", "render_jinja_template", "from_string"}
    }
    assert found == {"tokens/templates.py", "tokens/template_process.py"}


def test_the_loader_of_recipes_makes_no_objects() -> None:
    from palate.recipe_text import Loader

    assert issubclass(Loader, yaml.SafeLoader)
    with pytest.raises(yaml.constructor.ConstructorError):
        yaml.load("!!python/object/apply:os.getcwd []", Loader)  # noqa: S506 - that is the question
