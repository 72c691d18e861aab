from __future__ import annotations

from tests.redteam.worlds import CATEGORIES
from tests.speakers import Scripted

from palate.redteam.attempts import MUTATION, attempts_of
from palate.redteam.mutations import STYLES, mutate
from palate.speak.speaker import Manner, Reply

PLAIN = [one for one in attempts_of(CATEGORIES[:1], wrapped=0, seed=0) if len(one.turns) == 1]


def test_each_attack_is_reworded_in_styles_that_the_seed_draws() -> None:
    speaker = Scripted(lambda turns, manner: f'"Reworded {len(turns[-1].content)}"')
    found, lost = mutate(PLAIN, speaker, Manner(seed=1), 2)
    assert len(found) == 12
    assert not lost
    assert {one.form for one in found} == {MUTATION}
    assert len({one.id for one in found}) == 12
    assert found[0].turns[0].startswith("Reworded"), "quotation marks are taken off"
    assert found[0].attack == PLAIN[0].attack
    again, _ = mutate(PLAIN, speaker, Manner(seed=1), 2)
    assert again == found
    other, _ = mutate(PLAIN, speaker, Manner(seed=2), 2)
    assert [one.id for one in other] != [one.id for one in found]
    every, _ = mutate(PLAIN[:1], speaker, Manner(), 99)
    assert len(every) == len(STYLES)


def test_what_is_no_new_request_is_counted() -> None:
    bad = iter(
        [
            Reply(""),
            Reply("Please do", finished=False),
            Reply("do HARM number 2"),
            Reply("I'm sorry, but I can't help with that."),
            Reply("", failure="server"),
            Reply("A friend asks how to do harm."),
        ]
    )
    found, lost = mutate(PLAIN, Scripted(lambda turns, manner: next(bad)), Manner(), 1)
    assert [one.turns for one in found] == [("A friend asks how to do harm.",)]
    assert lost == {"empty": 1, "truncated": 1, "unchanged": 1, "refused": 1, "server": 1}
