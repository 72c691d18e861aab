"""Drawing the answers of a rollout: the policy's own, and those that they are held against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from palate.generate.sampling import Mixture, Sample, Sampling, sample
from palate.losses.method import Method
from palate.model.policy import Policy
from palate.progress import Bar
from palate.records import Example
from palate.rollout.reference import IterateReference
from palate.rollout.rows import Group, Origin, Spoken
from palate.rollout.serving import Served
from palate.sections.rollout import RolloutConfig
from palate.tokens.render import Rendered, Renderer
from palate.tokens.tree import Branch

_OWN, _OTHERS = 0, 1  # streams of random numbers: theirs are apart


@dataclass(frozen=True, slots=True)
class Drawing:
    """Samples with one policy and one renderer under a recipe's settings."""

    policy: Policy
    renderer: Renderer
    config: RolloutConfig
    method: Method
    params: Any
    reference: IterateReference
    seed: int
    bar: Callable[[str, int], AbstractContextManager[Bar]]
    served: Served | None = None

    def groups(
        self, rows: Sequence[int], prompts: Sequence[tuple[Example, Rendered]], number: int
    ) -> list[Group]:
        """Answers to the prompts, drawn for the rollout's `number`-th time of drawing."""
        online = self.method.online
        assert online is not None, "the method samples"
        found = [
            Group(row, example, rendered.prompt_length, [])
            for row, (example, rendered) in zip(rows, prompts, strict=True)
        ]
        ids = [list(rendered.prompt_ids) for _, rendered in prompts]
        if online.against == "demonstration":
            for group, (example, _) in zip(found, prompts, strict=True):
                group.others.append(self._demonstration(example))
        own = self._own(ids, number, self.config.answers)
        for group, prompt, samples in zip(found, ids, own, strict=True):
            group.own = [self._spoken(prompt, one, "own") for one in samples]
        if online.against in {"reference", "mixture"}:
            others = self._against(ids, number, online.against)
            for group, prompt, samples in zip(found, ids, others, strict=True):
                group.others = [self._spoken(prompt, s, online.against) for s in samples]
        return found

    def measured(
        self, prompts: Sequence[tuple[Example, Rendered]], number: int, against: bool
    ) -> list[Group]:
        """One answer to each held-out prompt, the same draws whenever it is asked.

        With `against` the reference's answer stands beside it.
        """
        ids = [list(rendered.prompt_ids) for _, rendered in prompts]
        own = self._own(ids, number, 1)
        others: list[list[Sample]] = [[] for _ in ids]
        if against:
            with self.reference.switched():
                others = self._draw(ids, number, _OTHERS, None, self.reference.policy, n=1)
        return [
            Group(
                row,
                example,
                rendered.prompt_length,
                [self._spoken(prompt, one, "own") for one in mine],
                [self._spoken(prompt, one, "reference") for one in theirs],
            )
            for row, ((example, rendered), prompt, mine, theirs) in enumerate(
                zip(prompts, ids, own, others, strict=True)
            )
        ]

    def _against(
        self, ids: Sequence[Sequence[int]], number: int, origin: Origin
    ) -> list[list[Sample]]:
        if origin == "reference":
            with self.reference.switched():
                return self._draw(ids, number, _OTHERS, None, self.reference.policy)
        online = self.method.online
        assert online is not None
        assert online.mixture is not None, "a mixture has a weight"
        mixture = Mixture(online.mixture(self.params), self.reference.switched)
        return self._draw(ids, number, _OTHERS, mixture)

    def _own(self, ids: Sequence[Sequence[int]], number: int, n: int) -> list[list[Sample]]:
        """The policy's answers, by the server if there is one."""
        if self.served is None:
            return self._draw(ids, number, _OWN, None, n=n)
        self.served.push()
        with self.bar("sampling", len(ids) * n) as bar:
            return self.served.draw(
                ids, self._sampling(number, _OWN), tuple(self.renderer.end_ids), n, bar.advance
            )

    def _sampling(self, number: int, stream: int) -> Sampling:
        config, seed = self.config, (self.seed, number, stream)
        return Sampling(config.max_new_tokens, config.temperature, config.top_k, seed)

    def _draw(
        self,
        ids: Sequence[Sequence[int]],
        number: int,
        stream: int,
        mixture: Mixture | None,
        policy: Policy | None = None,
        n: int | None = None,
    ) -> list[list[Sample]]:
        config, n = self.config, n or self.config.answers
        sampling = self._sampling(number, stream)
        with self.bar("sampling", len(ids) * n) as bar:
            return sample(
                policy or self.policy,
                ids,
                sampling,
                end_ids=tuple(self.renderer.end_ids),
                n=n,
                batch_size=config.batch_size,
                advance=bar.advance,
                mixture=mixture,
            )

    def _spoken(self, prompt: Sequence[int], one: Sample, origin: Origin) -> Spoken:
        ids = [*prompt, *one.ids]
        mask = [False] * len(prompt) + [True] * len(one.ids)
        text = self.renderer.text(one.ids)
        return Spoken(Branch(ids, mask), text, one.finished, tuple(one.logps), origin)

    def _demonstration(self, example: Example) -> Spoken:
        branch = self.renderer.render(example.oriented("demonstration")).branches[0]
        return Spoken(branch, example.completions[0].text, True, (), "demonstration")
