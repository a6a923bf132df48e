"""Guarantees of reward models in this process: what they say is what a slow direct computation says."""

import asyncio

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import tiny_checkpoints as tiny  # noqa: E402
from thinkscale.budget import Budget, Ledger  # noqa: E402
from thinkscale.engines.protocol import Abort, Capability, Request, complete  # noqa: E402
from thinkscale.engines.reward_shapes import SHAPES, Layout, RewardShape, Verdict  # noqa: E402
from thinkscale.engines.transformers_reward import TransformersReward  # noqa: E402
from thinkscale.errors import CapabilityError, ContextError, EngineError, ModelError, SettingsError  # noqa: E402
from thinkscale.session import (  # noqa: E402
    Place,
    Run,
    Session,
)
from thinkscale.types import AnswerKind, Finish, Message, Problem, Sampling, Trace  # noqa: E402

STEPS = ("the fox counts to five\n\n", "the dog jumps\n\n", "the answer is over")
HEADS = {
    "outcome": transformers.LlamaForSequenceClassification,
    "qwen-prm": transformers.LlamaForTokenClassification,
    "math-shepherd": transformers.LlamaForCausalLM,
    "rlhflow": transformers.LlamaForCausalLM,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    words = tiny.tokenizer()
    made = {}
    for name, head in HEADS.items():
        labels = {"outcome": 1, "qwen-prm": 2}.get(name)
        made[name] = tiny.save(tmp_path_factory.mktemp(name), head, words=words, labels=labels)
    return made


def judge(steps=STEPS, question="What is the answer?"):
    return Request(messages=(Message("user", question),), steps=steps)


async def rewards(engine, request, abort=None):
    (found,) = await complete(engine, request, abort)
    return found


def chat(folder, *turns, open=False):
    words = transformers.AutoTokenizer.from_pretrained(folder)
    turns = [{"role": role, "content": content} for role, content in turns]
    return words, words.apply_chat_template(turns, add_generation_prompt=open, return_dict=False)


def logits(folder, head, ids):
    with torch.inference_mode():
        return head.from_pretrained(folder, dtype=torch.float32).eval()(torch.tensor([ids])).logits[0]


def slow_outcome(folder, steps):
    found = []
    for k in range(len(steps)):
        _, ids = chat(folder, ("user", "What is the answer?"), ("assistant", "".join(steps[: k + 1])))
        found.append(float(logits(folder, HEADS["outcome"], ids)[0]))
    return found


def slow_qwen(folder, steps):
    marked = "".join(s.strip() + "<extra_0>" for s in steps)
    system = SHAPES["qwen-prm"].system
    words, ids = chat(folder, ("system", system), ("user", "What is the answer?"), ("assistant", marked))
    p = logits(folder, HEADS["qwen-prm"], ids).softmax(1)
    mark = words.convert_tokens_to_ids("<extra_0>")
    return [float(p[at, 1]) for at, token in enumerate(ids) if token == mark]


def slow_shepherd(folder, steps):
    words = transformers.AutoTokenizer.from_pretrained(folder)
    ids = words.encode("What is the answer? " + "\n".join(s.strip() + " ки" for s in steps))
    z = logits(folder, HEADS["math-shepherd"], ids)
    good, bad, mark = (words.encode(t, add_special_tokens=False)[-1] for t in ("+", "-", " ки"))
    return [float(z[at, [good, bad]].softmax(0)[0]) for at, token in enumerate(ids) if token == mark]


def slow_rlhflow(folder, steps):
    found, turns = [], []
    for k, step in enumerate(steps):
        turns.append(("user", step.strip() if k else "What is the answer? " + step.strip()))
        words, ids = chat(folder, *turns, open=True)
        good, bad = (words.encode(t, add_special_tokens=False)[-1] for t in ("+", "-"))
        found.append(float(logits(folder, HEADS["rlhflow"], ids)[-1, [good, bad]].softmax(0)[0]))
        turns.append(("assistant", "+"))
    return found


SLOW = {"outcome": slow_outcome, "qwen-prm": slow_qwen, "math-shepherd": slow_shepherd, "rlhflow": slow_rlhflow}


@pytest.mark.parametrize("shape", list(SHAPES))
async def test_rewards_equal_a_slow_direct_computation(shape, folders):
    engine = TransformersReward(model=folders[shape], shape=shape, device="cpu", batch=4)
    for steps in (STEPS, STEPS[:1], STEPS[:2]):
        found = await rewards(engine, judge(steps))
        assert found.rewards == pytest.approx(SLOW[shape](folders[shape], steps), abs=1e-5)
        assert (found.text, found.finish, found.tokens) == ("", Finish.eos, 0)
        assert found.usage.input_tokens == engine.count(judge(steps)) > 0
    await engine.aclose()


@pytest.mark.parametrize("shape", list(SHAPES))
async def test_requests_that_wait_together_share_batches_and_keep_their_rewards(shape, folders, monkeypatch):
    engine = TransformersReward(model=folders[shape], shape=shape, device="cpu", batch=64)
    await engine.open()
    batches, read = [], engine._reader.read
    monkeypatch.setattr(engine._reader, "read", lambda texts: batches.append(len(texts)) or read(texts))
    requests = [judge(STEPS[: 1 + i % 3], question="the " * (1 + 3 * i) + "fox") for i in range(9)]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(rewards(engine, request)) for request in requests]
    together = [task.result() for task in tasks]
    assert len(batches) < 9
    for request, found in zip(requests, together, strict=True):
        assert (await rewards(engine, request)).rewards == pytest.approx(found.rewards, abs=1e-5)
    await engine.aclose()


async def test_a_text_that_cannot_be_read_fails_no_neighbour(folders, monkeypatch):
    engine = TransformersReward(model=folders["outcome"], device="cpu")
    await engine.open()
    read, longest = engine._reader.read, engine.count(judge(("fox " * 40,)))

    def failing(texts):
        if any(len(text.ids) >= longest for text in texts):
            raise IndexError("index out of range")
        return read(texts)

    monkeypatch.setattr(engine._reader, "read", failing)
    requests = [judge(), judge(("fox " * 40,)), judge(STEPS[:1])]
    found = await asyncio.gather(*(rewards(engine, request) for request in requests), return_exceptions=True)
    assert [len(one.rewards) for one in (found[0], found[2])] == [3, 1]
    assert "index out of range" in str(found[1])
    await engine.aclose()


async def test_a_head_without_a_padding_token_reads_texts_of_all_lengths(folders, tmp_path):
    words = tiny.tokenizer()
    words.pad_token = None
    tiny.save(tmp_path, HEADS["outcome"], words=words, labels=1)
    engine = TransformersReward(model=tmp_path, device="cpu")
    assert (await rewards(engine, judge())).rewards == pytest.approx(slow_outcome(tmp_path, STEPS), abs=1e-5)
    await engine.aclose()


async def test_a_head_of_several_labels_is_not_read_as_one_number(tmp_path):
    engine = TransformersReward(model=tiny.save(tmp_path, HEADS["outcome"], labels=2), device="cpu")
    with pytest.raises(ModelError, match="2 labels"):
        await engine.open()
    await engine.aclose()


@pytest.mark.parametrize("shape", ["outcome", "qwen-prm"])
async def test_a_model_without_the_head_is_not_given_a_random_one(shape, folders):
    engine = TransformersReward(model=folders["math-shepherd"], shape=shape, device="cpu")
    with pytest.raises(ModelError, match=r"has no `score\."):
        await engine.open()
    await engine.aclose()


async def test_a_session_gets_one_reward_per_step(folders):
    engine = TransformersReward(model=folders["qwen-prm"], device="cpu")
    session = Session(Place(engine=engine, ledger=Ledger(Budget()), run=Run(seed=1), kind=AnswerKind.math))
    trace = Trace(prompt=Problem.of("What is the answer?").messages).inject("".join(STEPS))
    (found,) = await session.rewards([trace], lambda text: text.splitlines(keepends=True)[::2])
    assert len(found) == 3
    assert all(0 < reward < 1 for reward in found)
    await engine.aclose()


async def test_a_mark_inside_a_step_is_not_taken_for_ours(folders):
    engine = TransformersReward(model=folders["qwen-prm"], device="cpu")
    forged = await rewards(engine, judge(("the <extra_0>fox", "the dog")))
    content = "the <extra_0>fox<extra_0>the dog<extra_0>"
    turns = (("system", SHAPES["qwen-prm"].system), ("user", "What is the answer?"), ("assistant", content))
    words, ids = chat(folders["qwen-prm"], *turns)
    p = logits(folders["qwen-prm"], HEADS["qwen-prm"], ids).softmax(1)
    marks = [at for at, token in enumerate(ids) if token == words.convert_tokens_to_ids("<extra_0>")]
    assert forged.rewards == pytest.approx([float(p[at, 1]) for at in marks[1:]], abs=1e-5)
    await engine.aclose()


async def test_marks_are_found_among_the_templates_own(folders):
    shape = RewardShape(verdict=Verdict.label, layout=Layout.marked_chat, mark="\n")
    engine = TransformersReward(model=folders["qwen-prm"], shape=shape, device="cpu")
    found = await rewards(engine, judge(("a fox", "a dog")))
    turns = (("user", "What is the answer?"), ("assistant", "a fox\na dog\n"))
    words, ids = chat(folders["qwen-prm"], *turns)
    p = logits(folders["qwen-prm"], HEADS["qwen-prm"], ids).softmax(1)
    newline = words.encode("\n", add_special_tokens=False)[0]
    ours = [at for at, token in enumerate(ids) if token == newline][-3:-1]
    assert found.rewards == pytest.approx([float(p[at, 1]) for at in ours], abs=1e-5)
    await engine.aclose()


async def test_a_mark_that_gets_lost_is_said(folders, tmp_path):
    shape = RewardShape(verdict=Verdict.label, layout=Layout.marked_chat, mark="x")
    engine = TransformersReward(model=folders["qwen-prm"], shape=shape, device="cpu")
    with pytest.raises(EngineError, match="marks"):
        await rewards(engine, judge(("the fo", "a dog ")))
    await engine.aclose()
    # This vocabulary has no letter of the mark at all.
    engine = TransformersReward(model=tiny.save(tmp_path, HEADS["math-shepherd"]), shape="math-shepherd", device="cpu")
    with pytest.raises(EngineError, match="marks"):
        await rewards(engine, judge())
    await engine.aclose()


async def test_it_judges_and_does_nothing_else(folders):
    engine = TransformersReward(model=folders["outcome"], device="cpu")
    assert engine.capabilities.can == {Capability.rewards}
    with pytest.raises(CapabilityError, match="steps"):
        await rewards(engine, Request(messages=(Message("user", "Hello"),), sampling=Sampling()))
    with pytest.raises(SettingsError, match="outcome"):
        TransformersReward(model=folders["outcome"], shape="prm")
    with pytest.raises(SettingsError, match="batch"):
        TransformersReward(model=folders["outcome"], batch=0)
    await engine.aclose()


async def test_an_aborted_request_has_no_rewards_and_the_next_one_has(folders):
    engine = TransformersReward(model=folders["outcome"], device="cpu")
    for wish in (Abort(everything=True), Abort(draws={0})):
        found = await rewards(engine, judge(), wish)
        assert (found.finish, found.rewards) == (Finish.aborted, ())
    assert len((await rewards(engine, judge())).rewards) == 3
    await engine.aclose()
    await engine.aclose()
    with pytest.raises(EngineError, match="closed"):
        await rewards(engine, judge())


async def test_an_answer_longer_than_the_context_is_refused(folders):
    engine = TransformersReward(model=folders["outcome"], context=40, device="cpu")
    with pytest.raises(ContextError, match="40"):
        await rewards(engine, judge(("fox " * 200,)))
    await engine.aclose()


async def test_a_model_that_nothing_is_known_of_asks_for_a_shape(tmp_path):
    plain = TransformersReward(model=tiny.save(tmp_path / "plain", HEADS["rlhflow"]), device="cpu")
    with pytest.raises(ModelError, match="shape"):
        await plain.open()
    await plain.aclose()
    known = tiny.save(tmp_path / "math-shepherd-7b", HEADS["rlhflow"], words=tiny.tokenizer())
    named = TransformersReward(model=known, device="cpu")
    assert len((await rewards(named, judge())).rewards) == 3
    await named.aclose()
