"""The sections of a recipe: groups of settings, each with a default, a range and its reason."""

from palate.sections.data import DataConfig, FilterConfig
from palate.sections.evaluating import EvaluateConfig, GateConfig
from palate.sections.judging import JudgeConfig
from palate.sections.rollout import RolloutConfig, SamplerConfig
from palate.sections.section import Section
from palate.sections.serving import ServerConfig
from palate.sections.training import (
    AdapterConfig,
    ModelConfig,
    OptimConfig,
    TrainConfig,
)

__all__ = [
    "AdapterConfig",
    "DataConfig",
    "EvaluateConfig",
    "FilterConfig",
    "GateConfig",
    "JudgeConfig",
    "ModelConfig",
    "OptimConfig",
    "RolloutConfig",
    "SamplerConfig",
    "Section",
    "ServerConfig",
    "TrainConfig",
]
