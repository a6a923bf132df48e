"""The engine over vLLM's own front end: its parameters, detokenizer, queues, stops and aborts, and a toy for its core.

Where vLLM is not installed, nothing of this runs. It needs no graphics processor.
"""

import asyncio
from types import SimpleNamespace

import numpy as np
import pytest

from thinkscale.engines.protocol import Abort, Capability, Request, complete
from thinkscale.engines.vllm import Vllm, engine
from thinkscale.engines.vllm.asking import Tokens, sampling_settings
from thinkscale.engines.vllm.host import Started, failure_of, sampling_params, start
from thinkscale.errors import CapabilityError, ContextError, EngineError, ModelError
from thinkscale.testing import check_engine
from thinkscale.types import Finish, LogprobSpace, Message, Sampling

pytest.importorskip("vllm")
pytestmark = pytest.mark.filterwarnings("ignore")

WORDS = ["<end>", "<user>", "<bot>", " one", " two", " three", " four", " five", " six", " seven", " eight", " nine"]
END, CONTEXT = 0, 300


def tokenizer():
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {w: i for i, w in enumerate([*WORDS, "<unk>"])}
    backend = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r" ?[^\s<]+|<[a-z]+>"), behavior="isolated")
    backend.decoder = decoders.Fuse()
    made = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>", additional_special_tokens=WORDS[1:3])
    made.chat_template = "{% for m in messages %}<user>{{ m['content'] }}{% endfor %}<bot>"
    return made


def raw(ids):
    """Log-probabilities of what follows some ids: a table over the last one, in which ending is unlikely."""
    z = np.random.default_rng(1000 + ids[-1]).normal(size=len(WORDS))
    z[:3] -= 4
    return z - np.log(np.exp(z).sum())


class Core:
    """What vLLM keeps in another process: a batch of requests that all get one token in every step."""

    def __init__(self):
        self.resources = SimpleNamespace(engine_dead=False)
        self.running, self.aborted, self.steps, self.most = {}, [], 0, 0
        self.arrived = asyncio.Event()

    async def get_supported_tasks_async(self):
        return ("generate",)

    async def add_request_async(self, request):
        self.running[request.request_id] = (request, [])
        self.most = max(self.most, len(self.running))
        self.arrived.set()

    async def abort_requests_async(self, ids):
        self.aborted += [i for i in ids if self.running.pop(i, None)]

    async def get_output_async(self):
        from vllm.v1.engine import EngineCoreOutputs

        while not self.running:
            self.arrived.clear()
            await self.arrived.wait()
        await asyncio.sleep(0.001)
        self.steps += 1
        return EngineCoreOutputs(outputs=[self.step(name) for name in list(self.running)])

    def step(self, name):
        from vllm.v1.engine import EngineCoreOutput, FinishReason

        request, drawn = self.running[name]
        params = request.sampling_params
        z = raw(request.prompt_token_ids + drawn)
        token = self.draw(z.copy(), params, len(drawn))
        drawn.append(token)
        finish = FinishReason.STOP if token == END else FinishReason.LENGTH if len(drawn) == params.max_tokens else None
        if finish is not None:
            del self.running[name]
        return EngineCoreOutput(
            request_id=name,
            new_token_ids=[token],
            finish_reason=finish,
            new_logprobs=None if params.logprobs is None else rows([z], [token], params.logprobs),
            new_prompt_logprobs_tensors=self.prompt(request, drawn),
        )

    def draw(self, z, params, at):
        for token, bias in (params.logit_bias or {}).items():
            z[token] += bias
        if at < params.min_tokens:
            z[END] = -np.inf
        if params.temperature == 0:
            return int(z.argmax())
        p = np.exp(z / params.temperature)
        return int(np.random.default_rng([params.seed, at]).choice(len(z), p=p / p.sum()))

    def prompt(self, request, drawn):
        import torch
        from vllm.v1.outputs import LogprobsTensors

        k, ids = request.sampling_params.prompt_logprobs, request.prompt_token_ids
        if k is None or len(drawn) > 1:
            return None
        found = rows([raw(ids[:i]) for i in range(1, len(ids))], ids[1:], k)
        return LogprobsTensors(*(torch.from_numpy(np.asarray(a)) for a in found[:3]))

    def shutdown(self, timeout=None):
        self.resources.engine_dead = True


def rows(places, tokens, k):
    from vllm.v1.outputs import LogprobsLists

    best = [np.argsort(-z)[:k] for z in places]
    ids = np.array([[t, *b] for t, b in zip(tokens, best, strict=True)])
    ranks = np.array([(z >= z[t]).sum() for z, t in zip(places, tokens, strict=True)])
    return LogprobsLists(ids, np.array([z[i] for z, i in zip(places, ids, strict=True)]), ranks)


async def started(_settings):
    """vLLM's own `AsyncLLM` around the toy core."""
    from vllm.v1.engine import EngineCoreRequest
    from vllm.v1.engine.async_llm import AsyncLLM
    from vllm.v1.engine.input_processor import InputProcessor
    from vllm.v1.engine.output_processor import OutputProcessor

    words = tokenizer()

    def process_inputs(name, prompt, params, **_):
        params = params.clone()
        params.max_tokens = params.max_tokens or CONTEXT - len(prompt["prompt_token_ids"])
        params.update_from_generation_config({}, END)
        ids = list(prompt["prompt_token_ids"])
        return EngineCoreRequest(name, ids, None, params, None, 0.0, None, None, None)

    llm = object.__new__(AsyncLLM)
    llm.__dict__.update(
        log_requests=False, log_stats=False, logger_manager=None, admission_stats=None, output_handler=None,
        model_config=SimpleNamespace(is_encoder_decoder=False, enable_prompt_embeds=False),
        scheduler_config=SimpleNamespace(max_num_queued_reqs=None, max_num_queued_tokens=None),
        observability_config=SimpleNamespace(otlp_traces_endpoint=None),
        vllm_config=SimpleNamespace(cache_config=SimpleNamespace(kv_sharing_fast_prefill=False)),
        renderer=SimpleNamespace(mm_processor_cache=None, stat_mm_cache=lambda: None, shutdown=lambda: None),
        input_processor=SimpleNamespace(
            process_inputs=process_inputs, assign_request_id=InputProcessor.assign_request_id
        ),
        output_processor=OutputProcessor(words, log_stats=False),
        engine_core=Core(),
    )  # fmt: skip
    await llm.get_supported_tasks()
    return Started(llm, Tokens(words), CONTEXT, 16)


@pytest.fixture
async def vllm(monkeypatch):
    monkeypatch.setattr(engine, "start", started)
    made = Vllm(model="toy")
    await made.open()
    yield made
    await made.aclose()


def asked(n=1, **sampling):
    sampling = Sampling(**{"max_tokens": 20, **sampling})
    return Request(messages=(Message("user", " one two"),), sampling=sampling, seeds=tuple(range(1, n + 1)))


async def unfailing(chunks):
    async for chunk in chunks:
        if chunk.failure:
            raise chunk.failure


def core(engine):
    return engine._running.runtime.engine_core


async def test_it_passes_the_conformance_suite(vllm):
    await check_engine(vllm, prompt=" one two three")


async def test_a_start_that_is_given_up_ends_vllms_processes(monkeypatch):
    from vllm.engine import arg_utils
    from vllm.v1.engine.async_llm import AsyncLLM

    asked, ended = asyncio.Event(), []

    class Starting:
        async def get_supported_tasks(self):
            asked.set()
            await asyncio.Event().wait()

        def shutdown(self):
            ended.append(True)

    monkeypatch.setattr(arg_utils, "AsyncEngineArgs", lambda **_: None)
    monkeypatch.setattr(AsyncLLM, "from_engine_args", lambda _: Starting())
    starting = asyncio.create_task(start({"model": "toy"}))
    await asked.wait()
    starting.cancel()
    await asyncio.wait({starting})
    assert starting.cancelled()
    assert ended == [True]


async def test_what_is_known_once_it_is_open(vllm):
    known = vllm.capabilities
    assert (known.context, known.concurrency, known.exact, known.think) == (CONTEXT, 16, False, None)
    assert vllm.count(asked()) == 4


async def test_a_draw_depends_on_its_own_seed_alone(vllm):
    many = await complete(vllm, asked(5))
    assert len({d.text for d in many}) > 1
    for seed, together in enumerate(many, 1):
        [alone] = await complete(vllm, Request(messages=asked().messages, sampling=asked().sampling, seeds=(seed,)))
        assert alone.text == together.text


async def test_one_draw_is_aborted_with_an_exact_count_while_the_others_run_on(vllm):
    abort, counts = Abort(), [0, 0, 0]
    done = {}
    async for chunk in vllm.stream(asked(3, min_tokens=60, max_tokens=60), abort):
        counts[chunk.index] += chunk.tokens
        if counts[1] >= 3:
            abort.end(1)
        if chunk.completion:
            done[chunk.index] = chunk.completion
    assert [done[i].finish for i in range(3)] == [Finish.length, Finish.aborted, Finish.length]
    assert [done[i].tokens for i in range(3)] == counts
    assert 3 <= counts[1] < 60
    assert len(done[1].text.split()) == len(done[1].token_ids) == counts[1]
    assert len(core(vllm).aborted) == 1


async def test_an_abort_from_before_the_start_draws_nothing(vllm):
    before = core(vllm).steps
    [done] = await complete(vllm, asked(), Abort(everything=True))
    assert (done.finish, done.tokens, done.text) == (Finish.aborted, 0, "")
    assert core(vllm).steps == before


async def test_a_stream_that_is_left_ends_its_draws(vllm):
    chunks = vllm.stream(asked(4, min_tokens=200, max_tokens=200))
    await anext(chunks)
    await chunks.aclose()
    async with asyncio.timeout(60):
        while core(vllm).running:  # noqa: ASYNC110 — it lives on another loop
            await asyncio.sleep(0.005)
    assert len(core(vllm).aborted) == 4


async def test_bans_and_biases_hold_in_the_sampler(vllm):
    free = await complete(vllm, asked(temperature=0.0, max_tokens=1))
    banned = await complete(vllm, asked(temperature=0.0, max_tokens=1, banned=(free[0].text,)))
    assert banned[0].text != free[0].text
    forced = await complete(vllm, asked(temperature=0.0, max_tokens=1, logit_bias={5: 50.0}))
    assert forced[0].text == WORDS[5]


async def test_log_probabilities_are_those_of_the_model(vllm):
    [done] = await complete(vllm, asked(logprobs=2, temperature=0.0, max_tokens=4))
    ids = [2, *done.token_ids]
    for at, (chosen, top) in enumerate(zip(done.logprobs.chosen, done.logprobs.top, strict=True)):
        z = raw(ids[: at + 1])
        assert chosen == pytest.approx(z[ids[at + 1]])
        assert [i for i, _ in top] == np.argsort(-z)[:2].tolist()


async def test_one_engine_serves_several_event_loops(vllm):
    texts = [await asyncio.to_thread(asyncio.run, complete(vllm, asked(2))) for _ in range(2)]
    assert texts[0] == texts[1] == await complete(vllm, asked(2))


async def test_a_prompt_that_leaves_no_room_is_a_context_error(vllm):
    with pytest.raises(ContextError, match="holds 300"):
        await complete(vllm, Request(messages=(Message("user", " one" * CONTEXT),)))


async def test_what_the_engine_was_not_started_for_is_refused(vllm):
    with pytest.raises(CapabilityError, match="space=processed"):
        await complete(vllm, asked(logprobs=0, logprob_space=LogprobSpace.processed))
    with pytest.raises(CapabilityError, match="reasoning_parser"):
        await complete(vllm, asked(thinking_budget=5))


async def test_a_draw_that_vllm_refuses_fails_alone_and_for_good(vllm):
    failures = [chunk.failure async for chunk in vllm.stream(asked(2, temperature=3.0))]
    assert ["temperature" in str(f) for f in failures] == [True, True]
    assert not any(f.retryable for f in failures)


async def test_a_dead_core_is_an_error_that_no_retry_helps(vllm):
    core(vllm).resources.engine_dead = True
    [chunk] = [chunk async for chunk in vllm.stream(asked())]
    assert "processes have ended" in str(chunk.failure)
    assert not chunk.failure.retryable


async def test_closing_ends_open_streams_with_an_error_and_may_be_repeated(vllm):
    chunks = vllm.stream(asked(2, min_tokens=250, max_tokens=250))
    await anext(chunks)
    await vllm.aclose()
    with pytest.raises(EngineError):
        await unfailing(chunks)
    await vllm.aclose()
    with pytest.raises(EngineError, match="closed"):
        await vllm.open()


async def test_a_machine_without_a_graphics_processor_gets_a_model_error(tmp_path):
    made = Vllm(model=str(tmp_path))
    try:
        with pytest.raises(ModelError, match="cannot run"):
            await made.open()
    finally:
        await made.aclose()


def test_every_parameter_that_we_set_is_one_of_vllm():
    from vllm.sampling_params import RequestOutputKind

    asked = Sampling(
        temperature=0.5, top_p=0.9, top_k=5, min_p=0.1, max_tokens=9, min_tokens=2, stop=("x",), logprobs=3,
        logit_bias={3: 1.5}, thinking_budget=4, grammar='root ::= "a"', extra={"presence_penalty": 1.0},
    )  # fmt: skip
    params = sampling_params(sampling_settings(asked, 2**63 - 1, banned=[5]))
    assert (params.seed, params.n, params.output_kind) == (2**63 - 1, 1, RequestOutputKind.DELTA)
    assert params.logit_bias == {3: 1.5, 5: float("-inf")}
    assert (params.structured_outputs.grammar, params.thinking_token_budget) == ('root ::= "a"', 4)
    with pytest.raises(EngineError, match="refused"):
        sampling_params({"no_such_name": 1})


def test_every_setting_that_we_start_with_is_one_of_vllm():
    from dataclasses import fields

    from vllm.engine.arg_utils import AsyncEngineArgs

    known = {f.name for f in fields(AsyncEngineArgs)}
    assert set(Vllm(model="a/b", context=512)._settings) <= known


def test_only_what_vllm_calls_passing_is_tried_again():
    from vllm.exceptions import QueueOverflowError, RetryableRequestError, VLLMValidationError
    from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

    passing = [QueueOverflowError(), RetryableRequestError(), EngineGenerateError()]
    lasting = [VLLMValidationError("no"), EngineDeadError(), ValueError("no")]
    assert [failure_of(e).retryable for e in passing + lasting] == [True] * 3 + [False] * 3


def test_the_engine_declares_what_it_does():
    assert Capability.token_moments not in Vllm(model="a/b").capabilities.can
