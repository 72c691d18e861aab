"""The model's part of the fast engine: one forward for running answers and incoming prompts."""

from __future__ import annotations

import torch
from torch import Tensor

from palate.generate.alone import Alone
from palate.generate.attention import SHARED_ATTENTION, part, together
from palate.generate.draw import View
from palate.generate.plan import Incoming, Running
from palate.generate.pool import Pool
from palate.generate.schedule import Moves
from palate.model.attention import tree_attention
from palate.model.policy import Policy
from palate.model.tiles import Scores, tiled_attention

# Positions by which an answer's room grows.
_ROOM = 64


class Decoder:
    """Keys, values and logits of a policy as one `view` of its weights has them."""

    def __init__(self, policy: Policy, view: View, batch_size: int) -> None:
        self._policy, self._view, self._batch_size = policy, view, batch_size
        layers = policy.model.config.get_text_config().num_hidden_layers
        self._layers = layers
        self._prompts, self._answers = Pool(layers), Pool(layers)
        self._alone = Alone()
        self._first: list[Tensor] = []  # of each prompt, the logits of an answer's first token

    def forward(self, running: Running | None, incoming: Incoming | None) -> Tensor | None:
        """Logits [B, V] of the running answers' next tokens; those of prompts are kept."""
        ids, positions = [], []
        if running is not None:
            ids.append(running.ids_B)
            positions.append(running.positions_B)
            room = -(-running.longest // _ROOM) * _ROOM
            self._answers.reserve(min(self._batch_size, _more(len(running.ids_B))), room)
        if incoming is not None:
            ids.append(incoming.ids_F)
            positions.append(incoming.positions_F)
            rows, length = int(incoming.rows_W.max()) + 1, int(incoming.positions_W.max()) + 1
            self._prompts.reserve(min(self._batch_size, _more(rows)), length)
        alone = None
        fp32 = self._policy.precision == "fp32" and self._policy.device.type == "cpu"
        if fp32 and running is not None and incoming is None and running.alone is not None:
            alone = self._alone
            lengths = running.prompt_length, running.longest - 1
            alone.begin(running.alone, self._prompts, self._answers, *lengths)
        step = _Step(self._policy, self._prompts, self._answers, running, incoming, alone)
        with self._view(), self._policy.autocast():
            out = self._policy.model.get_decoder()(
                input_ids=torch.cat(ids)[None],
                position_ids=torch.cat(positions)[None],
                attention_mask=None,
                use_cache=False,
                attend=step,
            )
            assert step.layer == self._layers, "every layer has one attention"
            return self._logits(out.last_hidden_state[0], running, incoming)

    def _logits(
        self, hidden_TD: Tensor, running: Running | None, incoming: Incoming | None
    ) -> Tensor | None:
        count = 0 if running is None else len(running.ids_B)
        rows_HD = hidden_TD[:count]
        if incoming is not None:
            rows_HD = torch.cat([rows_HD, hidden_TD[count:][incoming.last_P]])
        logits_HV = self._policy.logits(rows_HD)
        self._first.extend(logits_HV[count:].clone())  # not views of all logits
        return logits_HV[:count] if count else None

    def first(self, rows: list[int]) -> Tensor:
        """Logits of the first token of answers to the prompts in these rows, [len(rows), V]."""
        return torch.stack([self._first[row] for row in rows])

    def move(self, answers: Moves, prompts: Moves, left: int) -> None:
        """Close the gaps that `Schedule.release` names; `left` prompts stay."""
        self._answers.move(answers)
        self._prompts.move(prompts)
        for source, to in zip(prompts.source, prompts.to, strict=True):
            self._first[to] = self._first[source]
        del self._first[left:]

    @property
    def bytes(self) -> int:
        """Memory that keys and values take."""
        return self._prompts.bytes + self._answers.bytes + self._alone.bytes

    def rest(self) -> None:
        """Give all memory back; only while nothing is on its way."""
        self._prompts, self._answers = Pool(self._layers), Pool(self._layers)
        self._alone.rest()
        self._first.clear()


def _more(rows: int) -> int:
    return 1 << (rows - 1).bit_length()


class _Step:
    """The attention of one forward: called once for each layer, first to last."""

    def __init__(
        self,
        policy: Policy,
        prompts: Pool,
        answers: Pool,
        running: Running | None,
        incoming: Incoming | None,
        alone: Alone | None,
    ) -> None:
        self._policy, self._prompts, self._answers, self._alone = policy, prompts, answers, alone
        self._running, self._incoming = running, incoming
        self.layer = 0

    def __call__(
        self, query: Tensor, key: Tensor, value: Tensor, scores: Scores, sinks: Tensor | None
    ) -> Tensor:
        out, count = [], 0
        if self._alone is not None and scores.softcap is None and sinks is None:
            found = self._lone(self._alone, query, key, value, scores)
            self.layer += 1
            return found
        if self._running is not None:
            count = len(self._running.ids_B)
            parts = (query[:, :count], key[:, :count], value[:, :count])
            out.append(self._answer(self._running, parts, scores, sinks).to(query.dtype))
        if self._incoming is not None:
            parts = (query[:, count:], key[:, count:], value[:, count:])
            out.append(self._prompt(self._incoming, parts, scores, sinks))
        self.layer += 1
        return out[0] if len(out) == 1 else torch.cat(out)

    def _lone(
        self, alone: Alone, query: Tensor, key: Tensor, value: Tensor, scores: Scores
    ) -> Tensor:
        """One answer by itself, [1, heads, d]; its key goes into the pool as well."""
        assert self._running is not None, "an answer is alone"
        self._answers.put(self.layer, 0, self._running.longest - 1, key[:, 0], value[:, 0])
        return alone.attend(self.layer, query[:, 0], key[:, 0], value[:, 0], scores.scale)[None]

    def _answer(
        self,
        running: Running,
        parts: tuple[Tensor, Tensor, Tensor],
        scores: Scores,
        sinks: Tensor | None,
    ) -> Tensor:
        """One query of each answer over its prompt's keys and its own; fp32 [B, heads, e]."""
        q_Bhd, k_Bkd, v_Bkd = (t.transpose(0, 1) for t in parts)
        answers, heads, width = q_Bhd.shape
        kv_heads, prompts = k_Bkd.shape[1], running.prompts
        self._answers.write(self.layer, running.rows_B, running.own_B, k_Bkd, v_Bkd)
        own_k, own_v = self._answers.read(self.layer, answers, running.longest)
        by_answer = q_Bhd.reshape(answers * kv_heads, -1, width)
        own = part(by_answer, own_k, own_v, running.own_mask_BK, scores)

        prompt_k, prompt_v = self._prompts.read(self.layer, prompts, running.prompt_length)
        place_N, where_B = running.place_N, running.where_B
        q_Nhd = q_Bhd if place_N is None else q_Bhd.index_select(0, place_N)
        q_PkGd = q_Nhd.reshape(prompts, -1, kv_heads, heads // kv_heads, width).transpose(1, 2)
        by_prompt = q_PkGd.reshape(prompts * kv_heads, -1, width)
        above = part(by_prompt, prompt_k, prompt_v, running.prompt_mask_PL, scores)

        def by_row(values: Tensor) -> Tensor:
            spread = values.view(prompts, kv_heads, -1, heads // kv_heads, values.shape[-1])
            rows_Nhe = spread.transpose(1, 2).reshape(-1, heads, values.shape[-1])
            return rows_Nhe if where_B is None else rows_Nhe.index_select(0, where_B)

        o, m, z = (t.view(answers, heads, -1) for t in own)
        return together([(by_row(above[0]), by_row(above[1]), by_row(above[2])), (o, m, z)], sinks)

    def _prompt(
        self,
        incoming: Incoming,
        parts: tuple[Tensor, Tensor, Tensor],
        scores: Scores,
        sinks: Tensor | None,
    ) -> Tensor:
        """Tree attention of the incoming prompts; their keys go into the pool. [F, heads, e]."""
        query, key, value = parts
        if incoming.tiles is None:
            out: Tensor = tree_attention(
                self._policy,
                query[None],
                key[None],
                value[None],
                None,
                scores.scale,
                forest=incoming.forest,
                softcap=scores.softcap,
                s_aux=sinks,
                kernel=self._policy.kernel,
            )[0][0]
        else:
            key, value = self._with_known(incoming, key, value)
            whole = query.new_zeros(query.shape[0], key.shape[1], query.shape[2])
            whole[:, incoming.fresh_F] = query
            out = tiled_attention(whole, key, value, sinks, incoming.tiles, scores)
            out = out[incoming.fresh_F]
        k_Wkd = key[:, incoming.packed_W].transpose(0, 1)
        v_Wkd = value[:, incoming.packed_W].transpose(0, 1)
        self._prompts.write(self.layer, incoming.rows_W, incoming.positions_W, k_Wkd, v_Wkd)
        return out

    def _with_known(self, incoming: Incoming, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of all packed rows: those that are known come from the pool."""
        found = self._prompts.gather(self.layer, incoming.source_K, incoming.source_position_K)
        whole = []
        for fresh, known in zip((key, value), found, strict=True):
            rows = fresh.new_empty(fresh.shape[0], incoming.forest.unique_tokens, fresh.shape[2])
            rows[:, incoming.fresh_F] = fresh
            rows[:, incoming.known_K] = known.transpose(0, 1).to(fresh.dtype)
            whole.append(rows)
        return whole[0], whole[1]


def prepare(policy: Policy) -> None:
    """Choose the attention that `Decoder` needs."""
    policy.attend(SHARED_ATTENTION)
