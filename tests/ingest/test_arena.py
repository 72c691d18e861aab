"""FastChat's logs and released battles, and conversations without a vote."""

import pytest
from tests.ingest.fixture_rows import FIVE, RENT, SYSTEM, answer, read, rows

from palate.ingest import fastchat_arena, lmsys_chat
from palate.records import Message, RecordError, Verdict


def test_fastchat():
    found, rejects = read("fastchat-arena")
    assert rejects == {4: "tie", 5: "provider-error", 8: "no-model-call"}
    (right,) = found[1]
    assert right.record.prompt == (RENT,)
    assert right.record.completions == (
        answer(Message("assistant", "No idea."), source="gpt-small"),
        answer(FIVE, source="claude-small"),
    )
    assert right.record.verdict == Verdict(1, 0, by="vote")
    assert right.ids == ("fastchat:battle/c0nv1aaaa/2",)
    # 1 760 000 000.1234 s after 1970
    assert right.record.provenance[0].time == "2025-10-09T08:53:20.123400+00:00"
    (longer,) = found[2]  # the answers part before the last question: all that follows is compared
    assert longer.record.prompt == (Message("user", "Hi"),)
    assert [m.content for m in longer.record.chosen.messages] == [
        "Hello!",
        "How much is a helmet?",
        "5 a day.",
    ]
    (bad,) = found[3]  # two negative labels, never a pair
    assert (bad.record.verdict, bad.record.shape) == (None, "labelled")
    assert [one.label for one in bad.record.completions] == [False, False]
    (up,), (chat,) = found[6], found[7]
    assert up.record.completions == (
        answer(Message("assistant", "You are welcome."), source="gpt-small", label=True),
    )
    assert (chat.record.prompt[0], chat.record.shape) == (SYSTEM, "demonstration")
    assert chat.ids == ("fastchat:chat/c0nv7aaaa/3",)
    (released,) = found[9]
    assert released.record.chosen == answer(Message("assistant", "Blue."), source="gpt-small")
    assert released.ids == ("fastchat:battle/58210e39b3fd4441a2bd4a518bb44c2d/2",)
    assert released.user == "arena_user_973"
    assert released.record.tags == {"language": "English"}


def test_the_address_is_nowhere():
    found, _ = read("fastchat-arena")
    assert "203.0.113.7" not in repr(found)


def test_an_image_of_a_turn_is_refused_but_its_text_alone_is_read():
    row = rows("fastchat-arena")[0]
    for state in row["states"]:
        state["messages"][2][1] = ["Do you rent out helmets?", []]
    (example,) = fastchat_arena.parse(row)
    assert example.prompt == (RENT,)
    row["states"][0]["messages"][2][1] = ["See", ["5f2c"]]
    with pytest.raises(RecordError) as caught:
        fastchat_arena.parse(row)
    assert caught.value.reason == "unsupported-content"


VOTE = rows("fastchat-arena")[0]
BATTLE = rows("fastchat-arena")[8]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({**VOTE, "type": "flag"}, "no-model-call"),
        ({**VOTE, "states": VOTE["states"][:1]}, "wrong-type"),
        ({**VOTE, "states": [VOTE["states"][0]] * 2}, "equal-answers"),
        ({**VOTE, "states": [None, None]}, "wrong-type"),
        (
            {**VOTE, "states": [{**VOTE["states"][0], "messages": [["a", None]] * 3}] * 2},
            "empty-answer",
        ),
        ({**BATTLE, "winner": "tie"}, "tie"),
        ({**BATTLE, "winner": 3}, "no-model-call"),
        ({**BATTLE, "conversation_a": None}, "missing-field"),
        ({"tstamp": 1, "type": "clear", "state": VOTE["states"][0]}, "no-model-call"),
    ],
)
def test_what_cannot_be_used_is_refused_under_its_reason(row, reason):
    with pytest.raises(RecordError) as caught:
        fastchat_arena.parse(row)
    assert caught.value.reason == reason
    fastchat_arena.ids_of(row)  # does not raise


def test_both_bad_of_a_released_battle():
    (example,) = fastchat_arena.parse({**BATTLE, "winner": "tie (bothbad)"})
    assert [one.label for one in example.completions] == [False, False]


def test_lmsys_chat():
    found, rejects = read("lmsys-chat")
    assert not rejects
    (first,), (second,) = found.values()
    assert first.record.prompt == (RENT,)
    said = [Message("assistant", "Yes."), Message("user", "How much?")]
    said.append(Message("assistant", "5 a day."))
    assert first.record.completions == (answer(*said, source="vicuna-small"),)
    assert first.ids == ("lmsys:conversation/33f01939a744455c869cb234afca47f1",)
    assert second.record.tags["redacted"] == "true"
    assert "22fd87ba" not in repr(second)
    assert second.record.provenance[0].time == "2026-10-09T08:00:00+00:00"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"conversation": None}, "missing-field"),
        ({"conversation": []}, "no-reply"),
        ({"conversation": [{"role": "x", "content": "y"}]}, "bad-role"),
        ({"feedback": "down"}, "unread-feedback"),
    ],
)
def test_lmsys_chat_refuses(fields, reason):
    with pytest.raises(RecordError) as caught:
        lmsys_chat.parse({**rows("lmsys-chat")[0], **fields})
    assert caught.value.reason == reason
