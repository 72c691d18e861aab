from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.tiny import BOS, END, START, TEMPLATE, byte_tokenizer

from palate.records import Completion, Example, Message, Verdict
from palate.tokens.render import Renderer, Unusable


def example(prompt: list[Message], *answers: list[Message]) -> Example:
    return Example(tuple(prompt), tuple(Completion(tuple(a)) for a in answers))


def user(text: str) -> Message:
    return Message("user", text)


def assistant(text: str) -> Message:
    return Message("assistant", text)


def trained_text(renderer: Renderer, branch: Any) -> str:
    ids = [i for i, m in zip(branch.ids, branch.mask, strict=True) if m]
    return str(renderer.tokenizer.decode(ids))


@pytest.fixture
def chat() -> Renderer:
    return Renderer(byte_tokenizer())


def test_only_the_answer_is_trained_on_up_to_its_end_of_turn(chat: Renderer) -> None:
    found = chat.render(example([user("hi")], [assistant("yes")], [assistant("no")]))
    text = chat.tokenizer.decode(list(found.branches[0].ids))
    assert text == "<|start|>user\nhi<|end|>\n<|start|>assistant\nyes<|end|>"
    assert trained_text(chat, found.branches[0]) == "yes<|end|>"
    assert trained_text(chat, found.branches[1]) == "no<|end|>"
    assert not any(found.branches[0].mask[: found.prompt_length])
    assert list(found.branches[0].ids).count(END) == 2  # the user's and the answer's
    assert found.branches[0].ids[-1] == END


def test_user_turns_inside_a_completion_are_context(chat: Renderer) -> None:
    turns = [assistant("one"), user("more?"), assistant("two")]
    found = chat.render(example([user("hi")], turns))
    assert trained_text(chat, found.branches[0]) == "one<|end|>two<|end|>"
    text = chat.tokenizer.decode(list(found.branches[0].ids))
    assert text.endswith(
        "assistant\none<|end|>\n<|start|>user\nmore?<|end|>\n<|start|>assistant\ntwo<|end|>"
    )


def test_the_prompt_is_what_a_server_would_send(chat: Renderer) -> None:
    messages = [Message("system", "be kind"), user("hi")]
    raw = chat.tokenizer.apply_chat_template(
        [m.to_dict() for m in messages], tokenize=True, add_generation_prompt=True
    )["input_ids"]
    assert chat.prompt(messages) == list(raw)


def test_raw_text_has_one_bos_and_one_end() -> None:
    tokenizer = byte_tokenizer(template=None)
    renderer = Renderer(tokenizer)
    assert not renderer.chat
    found = renderer.render(example([user("ab")], [assistant("cd")]))
    assert list(found.branches[0].ids) == [
        *tokenizer("ab")["input_ids"],
        *tokenizer("cd")["input_ids"],
        END,
    ]
    assert trained_text(renderer, found.branches[0]) == "cd<|end|>"


def test_a_tokenizer_that_adds_bos_gives_exactly_one() -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = byte_tokenizer(template=None)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|bos|> $A", special_tokens=[("<|bos|>", BOS)]
    )
    found = Renderer(tokenizer).render(example([user("ab")], [assistant("cd")]))
    assert list(found.branches[0].ids).count(BOS) == 1
    assert found.branches[0].ids[0] == BOS


def test_a_template_with_bos_gives_exactly_one_and_two_are_refused() -> None:
    once = Renderer(byte_tokenizer("{{ '<|bos|>' }}" + TEMPLATE))
    found = once.render(example([user("a")], [assistant("b")]))
    assert list(found.branches[0].ids)[:2] == [BOS, START]
    twice = Renderer(byte_tokenizer("{{ '<|bos|><|bos|>' }}" + TEMPLATE))
    assert twice.check(example([user("a")], [assistant("b")]))[0] == "double-bos"  # type: ignore[index]


def test_a_template_without_an_end_gets_one() -> None:
    bare = (
        "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    renderer = Renderer(byte_tokenizer(bare))
    found = renderer.render(example([user("a")], [assistant("b")]))
    assert trained_text(renderer, found.branches[0]) == "b<|end|>"


@pytest.mark.parametrize(
    ("text", "reason"),
    [("", "empty-answer"), ("a<|end|>b", "special-token")],
)
def test_unusable_answers(chat: Renderer, text: str, reason: str) -> None:
    with pytest.raises(Unusable) as caught:
        chat.render(example([user("hi")], [assistant(text)]))
    assert caught.value.reason == reason


def test_lengths_are_limits_not_scissors() -> None:
    pair = example([user("hi")], [assistant("yes")], [assistant("no")])
    # "<|start|>user\nhi<|end|>\n<|start|>assistant\n" is 1+5+2+1+1+1+10 = 21, "yes" and its end 4
    assert Renderer(byte_tokenizer(), max_length=25).check(pair) is None
    found = Renderer(byte_tokenizer(), max_length=24).check(pair)
    assert found == ("too-long", "25 tokens, limit 24")
    assert Renderer(byte_tokenizer(), max_prompt_length=21).check(pair) is None
    found = Renderer(byte_tokenizer(), max_prompt_length=20).check(pair)
    assert found == ("prompt-too-long", "21 tokens, limit 20")


def test_a_template_that_rewrites_history_is_refused() -> None:
    # thinking models drop earlier answers' thoughts once a later turn follows
    thinking = (
        "{% for m in messages %}{{ m['role'] }}:"
        "{% if m['role'] == 'assistant' and not loop.last %}short"
        "{% else %}{{ m['content'] }}{% endif %}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    renderer = Renderer(byte_tokenizer(thinking))
    turns = [assistant("long thought"), user("and?"), assistant("two")]
    assert renderer.check(example([user("a")], turns))[0] == "rewrites-history"  # type: ignore[index]
    assert renderer.check(example([user("a")], [assistant("fine")])) is None


def test_a_template_that_raises_is_the_rows_fault() -> None:
    refusing = "{{ raise_exception('no system') }}"
    found = Renderer(byte_tokenizer(refusing), template="chat").check(
        example([user("a")], [assistant("b")])
    )
    assert found is not None
    assert found[0] == "template-error"


def test_answers_that_are_the_same_tokens() -> None:
    found = Renderer(byte_tokenizer()).check(
        example([user("a")], [assistant("same")], [assistant("same")])
    )
    assert found == ("equal-answers", "two answers are the same tokens")


def test_tool_calls_reach_the_template_as_objects() -> None:
    template = (
        "{% for m in messages %}{{ m['role'] }}:{{ m['content'] }}"
        "{% for c in m.get('tool_calls', []) %}{{ c['function']['arguments']['city'] }}{% endfor %}"
        "<|end|>{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
    )
    call = {
        "id": "1",
        "type": "function",
        "function": {"name": "w", "arguments": '{"city":"Bonn"}'},
    }
    renderer = Renderer(byte_tokenizer(template))
    found = renderer.render(example([user("a")], [Message("assistant", "", tool_calls=(call,))]))
    assert trained_text(renderer, found.branches[0]) == "Bonn<|end|>"
    assert call["function"]["arguments"] == '{"city":"Bonn"}', "the record stays as it came"


def test_chat_is_asked_for_but_there_is_no_template() -> None:
    with pytest.raises(ValueError, match=r"data\.template to raw"):
        Renderer(byte_tokenizer(template=None), template="chat")


def test_control_tokens_in_what_people_wrote_are_refused(chat: Renderer) -> None:
    found = chat.check(example([user("hi<|start|>system")], [assistant("yes")]))
    assert found == ("special-token", "a message contains the control token <|start|>")


def test_a_template_without_a_system_role_gets_it_in_the_first_user_turn() -> None:
    refusing = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}"
    renderer = Renderer(byte_tokenizer(refusing + TEMPLATE))
    ids = renderer.prompt([Message("system", "be kind"), user("hi")])
    text = renderer.tokenizer.decode(ids)
    assert text == "<|start|>user\nbe kind\n\nhi<|end|>\n<|start|>assistant\n"


def test_tools_that_the_template_leaves_out_are_not_lost_silently(chat: Renderer) -> None:
    tool = {"type": "function", "function": {"name": "w", "parameters": {}}}
    asked = Example((user("hi"),), (Completion((assistant("yes"),)),), tools=(tool,))
    assert chat.check(asked)[0] == "template-ignores-tools"  # type: ignore[index]
    call = {"id": "1", "type": "function", "function": {"name": "w", "arguments": "{}"}}
    called = example([user("hi")], [Message("assistant", "x", tool_calls=(call,))])
    assert chat.check(called)[0] == "template-ignores-tools"  # type: ignore[index]


def test_a_tokenizer_that_puts_a_space_before_the_first_word() -> None:
    """As SentencePiece does: pieces must be encoded as they stand in the whole text."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    texts = ["<s>", "</s>", "▁", "\n", ":", *"abcdefghijklmnopqrstuvwxyz"]
    inner = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(texts)}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    inner.add_special_tokens(["<s>", "</s>"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] }}:\n{{ m['content'] }}</s>{% endfor %}"
        "{% if add_generation_prompt %}assistant:\n{% endif %}"
    )
    renderer = Renderer(tokenizer)
    (branch,) = renderer.render(example([user("hi")], [assistant("yes")])).branches
    whole = "user:\nhi</s>assistant:\nyes</s>"
    assert list(branch.ids) == tokenizer(whole, add_special_tokens=False)["input_ids"]
    trained = [i for i, m in zip(branch.ids, branch.mask, strict=True) if m]
    assert tokenizer.convert_ids_to_tokens(trained) == ["y", "e", "s", "</s>"]


# --- plain text as stretches ------------------------------------------------------------


def document(text: str) -> Example:
    return Example((), (Completion((Message("assistant", text),)),))


def begins_texts(template: str | None) -> Any:
    """The byte tokenizer, putting its beginning-of-text token before every text."""
    from tokenizers.processors import TemplateProcessing

    tokenizer = byte_tokenizer(template=template)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|bos|> $A", special_tokens=[("<|bos|>", BOS)]
    )
    return tokenizer


@pytest.mark.parametrize("template", [None, TEMPLATE])
@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("length", [8, 9, 20, 1000])
def test_every_token_but_the_first_is_predicted_exactly_once(
    length: int, bos: bool, template: str | None
) -> None:
    """30 bytes and an end, with a beginning or without; also where the end opens a stretch."""
    tokenizer = begins_texts(template) if bos else byte_tokenizer(template=template)
    renderer = Renderer(tokenizer, max_length=length)
    for size in range(1, 31):
        text = "abcdefghijklmnopqrstuvwxyz0123"[:size]
        whole = [*([BOS] if bos else []), *byte_tokenizer()(text)["input_ids"], END]
        assert whole.count(BOS) == bos
        found = renderer.stretches(document(text))
        predicted: list[int] = []
        for number, stretch in enumerate(found):
            (branch,) = stretch.branches
            ids, mask = list(branch.ids), list(branch.mask)
            assert 2 <= len(ids) <= length
            assert stretch.prompt_length == 1
            assert mask == [False] + [True] * (len(ids) - 1)
            if number:
                assert ids[0] == found[number - 1].branches[0].ids[-1]
            predicted += ids[1:]
        assert [found[0].branches[0].ids[0], *predicted] == whole
        assert len(found) == -(-(len(whole) - 1) // (length - 1))


def test_a_text_without_words_has_no_stretch() -> None:
    for tokenizer in (byte_tokenizer(None), begins_texts(None)):
        with pytest.raises(Unusable) as caught:
            Renderer(tokenizer).stretches(document(""))
        assert caught.value.reason == "empty-answer"


def test_a_control_token_in_a_text_is_refused() -> None:
    with pytest.raises(Unusable) as caught:
        Renderer(byte_tokenizer()).stretches(document("a <|end|> b"))
    assert caught.value.reason == "special-token"


def test_a_prompt_of_a_chat_has_no_second_beginning() -> None:
    renderer = Renderer(begins_texts(TEMPLATE))
    assert renderer.prompt([user("hi")]).count(BOS) == 0
    assert Renderer(begins_texts(None)).prompt([user("hi")]).count(BOS) == 1


def test_each_shape_renders_its_own_completions(chat: Renderer) -> None:
    base = example([user("hi")], [assistant("no")], [assistant("yes")])
    judged = replace(base, verdict=Verdict(better=1, worse=0))
    (found,) = chat.render_as(judged, "pair")
    assert [trained_text(chat, b) for b in found.branches] == ["yes<|end|>", "no<|end|>"]
    for label in (True, False):
        thumb = replace(base, completions=(replace(base.completions[0], label=label),))
        (found,) = chat.render_as(thumb, "labelled")
        assert found.desirable is label
        assert [trained_text(chat, b) for b in found.branches] == ["no<|end|>"]
    (found,) = chat.render_as(replace(base, completions=base.completions[:1]), "demonstration")
    assert found.desirable is None
    stretches = Renderer(byte_tokenizer(), max_length=8).render_as(document("0123456789"), "text")
    told = [chat.tokenizer.decode(list(one.branches[0].ids)) for one in stretches]
    assert told == ["01234567", "789<|end|>"]


def test_what_cannot_be_rendered_in_a_shape_is_said(chat: Renderer) -> None:
    assert chat.check(document("fine"), "text") is None
    assert chat.check(document("<|end|>"), "text") == (
        "special-token",
        "a message contains the control token <|end|>",
    )


def test_a_prompt_that_is_judged_ends_where_the_answer_would_begin() -> None:
    turns = (Message("system", "be kind"), user("hi"))
    judged = Example(turns, (Completion((), label=False),))
    found = Renderer(byte_tokenizer(), prompts=True).render(judged)
    assert found.desirable is False
    (branch,) = found.branches
    assert list(branch.ids) == Renderer(byte_tokenizer()).prompt(turns)
    assert [i for i, trained in enumerate(branch.mask) if trained] == [len(branch.ids) - 1]


@pytest.mark.parametrize("template", ["chat", "raw"])
def test_other_methods_refuse_a_prompt_without_an_answer(template: Any) -> None:
    judged = Example((user("hi"),), (Completion((), label=True),))
    with pytest.raises(Unusable) as caught:
        Renderer(byte_tokenizer(), template=template).render(judged)
    assert caught.value.reason == "empty-answer"
