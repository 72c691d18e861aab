"""`palate serve`: models behind OpenAI's chat completions."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from palate.cli.runs import finished_model, is_run, run_config, run_folder
from palate.cli.speaking import place_of, refuse_classifier
from palate.config import ConfigError
from palate.progress import reporter_for

if TYPE_CHECKING:
    from palate.serve.settings import Entry, Settings
    from palate.web.listening import Say

_ADAPTER = "adapter_model.safetensors"


def run_serve(
    models: Sequence[str],
    flags: dict[str, object],
    *,
    bases: Sequence[str] = (),
    attached: bool = False,
    print_vllm: bool = False,
) -> None:
    """Serve the models until told to end, or print the command for vLLM.

    `flags` are fields of `Settings`, but for `api_key_env`. `bases` are runs of which the model
    that they began from is served too. Raises `ConfigError`.
    """
    if not models and (print_vllm or not bases):
        raise ConfigError("say what to serve: a run's folder, or a model as in a recipe")
    if print_vllm:
        typer.echo(vllm_command(models))
        return
    try:
        from palate.serve.server import serve
        from palate.serve.settings import Settings
    except ImportError as error:
        raise ConfigError(f"serve needs {error.name}: pip install 'palate[web]'") from error
    name = flags.pop("api_key_env", None)
    key = _key(str(name)) if name is not None else None
    settings = Settings(api_key=key, **flags)  # type: ignore[arg-type]  # typer checked them
    _refuse_open_door(settings)
    entries = [*map(entry_of, models), *map(base_of, bases)]
    note = reporter_for().note
    if attached:
        _serve_attached(entries, settings, note)
        return
    note(f"for production, vLLM serves the same: palate serve {shlex.join(models)} --print-vllm")
    serve(entries, settings, note)


def entry_of(model: str) -> Entry:
    """What a run's folder, or a model as in a recipe, is served as.

    A run that trained an adapter stands beside its base; others are models of their own. Raises
    `ConfigError` for a run that is not finished, or whose model writes nothing.
    """
    from palate.serve.settings import Entry
    from palate.train.folder import read_plan

    if not is_run(model):
        place = Path(model).expanduser()
        return Entry(place.resolve().name if place.exists() else model, model)
    folder = run_folder(model)
    config = run_config(folder)
    name = Path(model).resolve().name
    adapter = folder / "adapter"
    trust = config.model.trust_remote_code
    if config.adapter.kind != "lora" or not (adapter / _ADAPTER).is_file():
        place_, template, trust = place_of(model)
        return Entry(name, place_, template, trust)
    refuse_classifier(config, model)
    finished_model(folder)  # an adapter without one may be half a training
    plan = read_plan(folder)
    base = plan.base_sha256 if plan is not None else None
    return Entry(name, config.model.path, config.data.template, trust, adapter, base)


def base_of(run: str) -> Entry:
    """What the model that a run began from is served as: under the run's template."""
    from palate.serve.settings import Entry

    config = run_config(run_folder(run))
    trust = config.model.trust_remote_code
    return Entry(f"{Path(run).resolve().name}-base", config.model.path, config.data.template, trust)


def _serve_attached(entries: Sequence[Entry], settings: Settings, note: Say) -> None:
    """Serve for the program that started this one: it reads one line, and holds the other end."""
    import json
    import sys

    from palate.serve.server import serve

    def tell(url: str, names: list[str]) -> None:
        sys.stdout.write(json.dumps({"url": f"{url}/v1", "models": names}) + "\n")
        sys.stdout.flush()

    serve(entries, settings, note, tell=tell, holder=sys.stdin.fileno())


def vllm_command(models: Sequence[str]) -> str:
    """The command that has vLLM serve the same models; raises `ConfigError` where none does."""
    from palate.ship.vllm import max_lora_rank

    entries = [entry_of(model) for model in models]
    adapters = [entry for entry in entries if entry.adapter is not None]
    places = {entry.place for entry in entries}
    if len(places) > 1:
        raise ConfigError(
            "a vLLM server holds one base model, and these runs have several: "
            + ", ".join(sorted(places))
            + "; print the command for each"
        )
    place = places.pop()
    command = ["vllm", "serve", _weights_of(place)]
    plain = [entry.name for entry in entries if entry.adapter is None]
    if plain or adapters:
        command += ["--served-model-name", *(plain or ["base"])]
    if adapters:
        rank = max(_rank(entry.adapter) for entry in adapters if entry.adapter is not None)
        command += ["--enable-lora", "--max-loras", str(len(adapters))]
        command += ["--max-lora-rank", str(max_lora_rank(rank))]
        command += ["--lora-modules", *(f"{one.name}={one.adapter}" for one in adapters)]
    if any(entry.trust_remote_code for entry in entries):
        command.append("--trust-remote-code")
    command += _asked_as_trained(place, entries)
    # Otherwise the base's generation_config.json changes temperature, top_p and top_k.
    command += ["--generation-config", "vllm"]
    return shlex.join(command)


def _asked_as_trained(place: str, entries: Sequence[Entry]) -> list[str]:
    """Arguments about the chat template; a note for models that were trained without one."""
    from palate.model.load import load_tokenizer
    from palate.ship.vllm import NO_THINKING, PLAIN, may_think

    trust = any(entry.trust_remote_code for entry in entries)
    try:
        tokenizer, _ = load_tokenizer(place, trust_remote_code=trust)
    except ValueError as error:  # vLLM may be on another machine, which has the model
        reporter_for().note(f"its chat template was not looked at: {error}")
        return []
    has_template = bool(getattr(tokenizer, "chat_template", None))
    plain = [entry.name for entry in entries if entry.template == "raw" or not has_template]
    if plain:
        reporter_for().note(f"{', '.join(plain)}: {PLAIN}")
    chats = len(plain) < len(entries)
    return NO_THINKING if chats and may_think(tokenizer) else []


def _weights_of(place: str) -> str:
    """A place that others know: what only Palate finds, it has converted to a folder."""
    from palate.model.load import SMOLLM2, resolve

    ours = place.lower() == SMOLLM2 or place.lower().endswith(".gguf")
    return resolve(place) if ours else place


def _rank(adapter: Path) -> int:
    import json

    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    return int(config["r"])


def _key(name: str) -> str:
    key = os.environ.get(name)
    if not key:
        raise ConfigError(f"the environment variable {name} holds no key: set it")
    return key


def _refuse_open_door(settings: Settings) -> None:
    from palate.web.listening import is_loopback

    if not is_loopback(settings.host) and settings.api_key is None:
        raise ConfigError(
            f"{settings.host} can be reached from outside this machine: give --api-key-env NAME, "
            "the environment variable that holds the key which clients must send"
        )
