"""The client of chat endpoints, against a server on this machine: failures, waiting, limits, and the key."""

import email.utils
import logging
import pickle
import random
import subprocess
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

import pytest
from chat_server import RATIONALE, USAGE, ChatServer, Reply, answer, failure, in_turn

from hf_mner.knowledge import SourceError
from hf_mner.knowledge import endpoint as endpoint_module
from hf_mner.knowledge.endpoint import ChatEndpoint
from hf_mner.knowledge.endpoint_errors import BudgetReached, EndpointError
from hf_mner.knowledge.endpoint_replies import read_retry_after
from hf_mner.knowledge.spending import Budget, Pacer, Spending, Tokens

KEY = "sk-proj-Zaphod42Beeblebrox"
HELLO = [{"role": "user", "content": "hello"}]
HELLO_BOUND = 5 + 16  # bytes of the text, and what a chat template may add


@pytest.fixture
def server():
    with ChatServer() as server:
        yield server


@pytest.fixture
def waits(monkeypatch):
    """The seconds that would have been waited; nothing is."""
    waited = []
    monkeypatch.setattr(endpoint_module, "pause", lambda seconds, _: waited.append(seconds))
    return waited


def client(server, **settings):
    return ChatEndpoint("tiny", server.base_url, **settings)


def many(count):
    return [[{"role": "user", "content": f"post {number}"}] for number in range(count)]


def repeat(server, **usage):
    """Let the server answer what it was asked."""
    server.script = lambda request: answer(f"about {request.content}", **usage)


def test_an_answer_comes_back_and_is_counted(server):
    endpoint = client(server, max_tokens=7)
    assert endpoint.ask(HELLO) == (RATIONALE, False)
    (request,) = server.requests
    assert request.body == {"model": "tiny", "messages": HELLO, "max_tokens": 7, "temperature": 0.0}
    assert endpoint.spent == Spending(1, 100, 20, 0.0)
    assert str(endpoint.spent) == "1 requests, 100 + 20 tokens"


def test_newer_models_get_the_fields_that_they_accept(server):
    client(server, temperature=None, length_field="max_completion_tokens").ask(HELLO)
    assert server.requests[0].body == {"model": "tiny", "messages": HELLO, "max_completion_tokens": 512}


def test_a_cut_off_answer_says_so(server):
    server.script = in_turn([answer("Named", finish_reason="length")])
    assert client(server).ask(HELLO) == ("Named", True)


def test_thoughts_before_the_answer_are_left_out(server):
    server.script = in_turn([answer("\n<think>Who is\nthat?</think>\n\nZaphod"), answer(None)])
    assert client(server).ask(HELLO).text.strip() == "Zaphod"
    assert client(server).ask(HELLO).text == ""


PASSING = {
    "429": failure(429, "slow down"),
    "500": failure(500),
    "503": failure(503),
    "408": failure(408),
    "broken reply": Reply(b'{"choices": [{"mess'),
    "broken reply, no JSON at all": Reply(b"<html>Bad gateway</html>", headers={"Content-Type": "text/html"}),
    "broken reply, no choices": Reply({"object": "chat.completion"}),
    "broken reply, empty choices": Reply({"choices": []}),
    "broken reply, a list": Reply([1, 2]),
    "broken reply, content is no text": Reply({"choices": [{"message": {"content": [1]}}]}),
    "timeout": answer(delay_s=5),
}


@pytest.mark.parametrize("reason", PASSING)
def test_what_passes_is_asked_again(server, waits, reason):
    server.script = in_turn([PASSING[reason]])
    endpoint = client(server, timeout_s=0.3 if reason == "timeout" else 10)
    assert endpoint.ask(HELLO).text == RATIONALE
    assert len(server.requests) == 2
    assert endpoint.failures == {reason.partition(",")[0]: 1}
    assert len(waits) == 1


def test_waits_double_with_chance_and_stay_below_the_longest(server, waits):
    server.script = in_turn([failure(500)] * 9)
    client(server, max_attempts=10).ask(HELLO)
    for number, wait_s in enumerate(waits[:6]):
        assert 2**number <= wait_s <= 2**number + 1
    assert waits[6:] == [60, 60, 60]
    assert any(wait_s % 1 for wait_s in waits), "there is no chance in the waits"


def test_retry_after_is_obeyed(server, waits):
    date = email.utils.formatdate(time.time() + 30, usegmt=True)
    server.script = in_turn([failure(429, Retry_After="17"), failure(503, Retry_After=date), failure(500)])
    client(server).ask(HELLO)
    assert waits[0] == 17
    assert 25 < waits[1] <= 30
    assert 4 <= waits[2] <= 5


def test_a_server_that_wants_a_long_wait_is_not_waited_for(server, waits):
    server.script = in_turn([failure(429, "come back tomorrow", Retry_After="86400")])
    with pytest.raises(
        EndpointError, match=r"replied 429: 'come back tomorrow'. It asks to wait 86400 s; run again later"
    ):
        client(server).ask(HELLO)
    assert (len(server.requests), waits) == (1, [])


@pytest.mark.parametrize(
    ("header", "seconds"), [(None, None), ("", None), ("3", 3), ("0.5", 0.5), ("-2", 0), ("soon", None)]
)
def test_the_retry_after_header_is_read(header, seconds):
    assert read_retry_after(header) == seconds


def test_attempts_end(server, waits):
    server.script = lambda request: failure(500, "it burns")
    endpoint = client(server, max_attempts=3)
    with pytest.raises(
        EndpointError, match=r"'tiny' at 127.*replied 500: 'it burns'. Given up after 3 attempts"
    ) as error:
        endpoint.ask(HELLO)
    assert error.value.reason == "500"
    assert (len(server.requests), len(waits), endpoint.failures["500"]) == (3, 2, 3)


def test_waits_are_logged_and_long_ones_are_warnings(server, waits, caplog):
    caplog.set_level(logging.INFO, endpoint_module.__name__)
    server.script = in_turn([failure(429, "slow down", Retry_After="3"), failure(429, "slow down", Retry_After="12")])
    client(server).ask(HELLO)
    logged = [record for record in caplog.records if record.name == endpoint_module.__name__]
    assert [record.levelname for record in logged] == ["INFO", "WARNING"]
    assert logged[0].getMessage().endswith("replied 429: 'slow down'. Attempt 1 of 6 failed; the next in 3.0 s.")


def test_from_the_third_attempt_on_failures_are_warnings_and_the_last_has_no_next(server, waits, caplog):
    caplog.set_level(logging.INFO, endpoint_module.__name__)
    server.script = lambda request: failure(500)
    with pytest.raises(EndpointError, match="Given up after 4 attempts"):
        client(server, max_attempts=4).ask(HELLO)
    logged = [record for record in caplog.records if record.name == endpoint_module.__name__]
    assert [record.levelname for record in logged] == ["INFO", "INFO", "WARNING"]
    assert f"Attempt 3 of 4 failed; the next in {waits[2]:.1f} s." in logged[-1].getMessage()


@pytest.mark.parametrize(
    ("reply", "reason", "advice"),
    [
        (failure(400, "max_tokens is not supported"), "400", r"\(400: max_tokens is not supported\); correct the set"),
        (failure(401), "401", r"refused the access \(401\); name the environment variable .* in `key_variable`"),
        (failure(403), "403", r"refused the access \(403\)"),
        (failure(404, "no model tiny"), "404", r"\(404: no model tiny\); check `model` and `base_url`"),
        (failure(422, "no such field"), "422", r"\(422: no such field\); correct"),
        (failure(429, "pay", code="insufficient_quota"), "quota", r"no quota left; check its billing"),
    ],
)
def test_what_does_not_pass_ends_at_once(server, waits, reply, reason, advice):
    server.script = in_turn([reply])
    with pytest.raises(EndpointError, match=advice) as error:
        client(server).ask(HELLO)
    assert error.value.reason == reason
    assert (len(server.requests), waits) == (1, [])


def test_a_wrong_path_is_a_404(server):
    with pytest.raises(EndpointError, match="404: there is no /v2/chat/completions"):
        ChatEndpoint("tiny", server.base_url.replace("v1", "v2")).ask(HELLO)


def test_a_server_that_is_not_there_is_named(waits):
    with ChatServer() as server:
        base_url = server.base_url
    with pytest.raises(
        EndpointError, match=r"cannot be reached \(connection refused\); check `base_url`, and that.*2 attempts"
    ):
        ChatEndpoint("tiny", base_url, max_attempts=2).ask(HELLO)


def test_many_answers_come_in_order_and_at_the_same_time(server):
    server.script = lambda request: answer(
        f"about {request.content}", delay_s=random.Random(request.content).random() / 9
    )
    answers = client(server, concurrency=4).ask_all(many(12))
    assert [each.text for each in answers] == [f"about post {number}" for number in range(12)]
    assert 2 <= server.most_at_once <= 4
    assert client(server).ask_all([]) == []


def test_after_a_failure_the_rest_is_not_sent(server):
    server.script = lambda request: failure(400) if request.content == "post 3" else answer(delay_s=0.01)
    with pytest.raises(EndpointError, match="400"):
        client(server, concurrency=2).ask_all(many(200))
    assert len(server.requests) < 20


def test_a_failure_ends_the_waits_of_others(server):
    def script(request):
        if request.content == "post 0":
            return failure(429, Retry_After="30")
        return failure(400, delay_s=0.1)

    server.script = script
    began = time.monotonic()
    with pytest.raises(EndpointError, match="400"):
        client(server).ask_all(many(2))
    assert time.monotonic() - began < 10
    assert len(server.requests) == 2


def test_the_rate_holds_over_all_threads(server):
    endpoint = client(server, requests_per_minute=1200, concurrency=4)
    began = time.monotonic()
    endpoint.ask_all(many(7))
    assert time.monotonic() - began >= 6 * 60 / 1200


def test_turns_are_taken_at_even_distances(monkeypatch):
    monkeypatch.setattr("hf_mner.knowledge.spending.time.monotonic", lambda: 100.0)
    pacer = Pacer(30)
    assert [pacer.take() for _ in range(4)] == [0, 2, 4, 6]
    assert [Pacer(None).take() for _ in range(3)] == [0, 0, 0]


def test_repetitions_keep_the_rate(server, waits):
    server.script = in_turn([failure(429, Retry_After="0")])
    client(server, requests_per_minute=60).ask(HELLO)
    assert waits[0] == 0
    assert 0 < waits[1] <= 1


def test_requests_end_with_the_budget(server):
    endpoint = client(server, max_requests=3)
    endpoint.ask_all(many(2))
    with pytest.raises(BudgetReached, match=r"`max_requests=3` could be exceeded by 2 more requests, which were not"):
        endpoint.ask_all(many(2))
    endpoint.ask(HELLO)
    with pytest.raises(
        BudgetReached, match=r"Spent so far: 3 requests, 300 \+ 60 tokens.*run again with a new budget"
    ):
        endpoint.ask(HELLO)
    assert len(server.requests) == 3


def test_repetitions_count_as_requests(server, waits):
    server.script = lambda request: failure(500)
    endpoint = client(server, max_requests=4)
    with pytest.raises(BudgetReached, match="max_requests=4"):
        endpoint.ask(HELLO)
    assert len(server.requests) == 4
    assert endpoint.spent == Spending(4, 0, 0, 0.0)


def test_tokens_end_with_the_budget_before_it_is_exceeded(server):
    endpoint = client(server, max_tokens=50, max_total_tokens=300)
    endpoint.ask(HELLO)
    endpoint.ask(HELLO)  # 240 are spent, and the next one could take 71
    with pytest.raises(BudgetReached, match=r"`max_total_tokens=300`.*2 requests, 200 \+ 40 tokens"):
        endpoint.ask(HELLO)
    assert len(server.requests) == 2


def test_money_ends_with_the_budget(server):
    prices = {"input_price": 1000.0, "output_price": 5000.0}  # an answer costs 0.1 + 0.1, and may cost 0.121
    endpoint = client(server, max_tokens=20, max_cost=0.5, **prices)
    endpoint.ask(HELLO)
    endpoint.ask(HELLO)
    with pytest.raises(BudgetReached, match=r"`max_cost=0.5`.*cost 0.4000"):
        endpoint.ask(HELLO)
    assert endpoint.spent.cost == pytest.approx(0.4)


@pytest.mark.parametrize(
    "reply", [answer(usage=None), answer(usage={"prompt_tokens": "many"}), answer(usage=dict.fromkeys(USAGE, -9))]
)
def test_what_the_server_does_not_tell_counts_as_the_upper_bound(server, reply):
    server.script = in_turn([reply])
    endpoint = client(server, max_tokens=50)
    endpoint.ask(HELLO)
    assert endpoint.spent == Spending(1, HELLO_BOUND, 50, 0.0)


def test_a_timeout_counts_as_the_upper_bound_and_a_refusal_as_nothing(server, waits):
    server.script = in_turn([answer(delay_s=5), failure(429)])
    endpoint = client(server, max_tokens=50, timeout_s=0.3)
    endpoint.ask(HELLO)
    assert endpoint.spent == Spending(3, HELLO_BOUND + 100, 50 + 20, 0.0)


def test_the_upper_bound_holds_for_any_text_of_a_byte_level_vocabulary(server):
    text = "Zaphod \U0001f600 北京 naïve"
    client_ = client(server)
    bound = client_._bound([{"role": "system", "content": text}, {"role": "user", "content": "x"}])
    assert bound == (len(text.encode()) + 1 + 2 * 16, 512)


def test_an_image_counts_as_an_estimate_until_more_is_known(server):
    image = {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64," + "A" * 10_000}}
    messages = [{"role": "user", "content": [image, {"type": "text", "text": "Who?"}]}]
    endpoint = client(server)
    assert endpoint._bound(messages).read == 2000 + 4 + 16
    server.script = in_turn([answer(usage={**USAGE, "prompt_tokens": 25_000})])
    endpoint.ask(messages)
    assert endpoint._bound(messages).read == 25_000
    assert endpoint._bound(HELLO).read == HELLO_BOUND


def test_no_budget_is_ever_exceeded():
    """Random requests of eight threads, each using at most its upper bound."""
    budget = Budget(max_total_tokens=20_000, max_cost=0.02, input_price=1.0, output_price=2.0)
    refused = threading.Event()

    def work(seed):
        chance = random.Random(seed)
        while not refused.is_set():
            bound = Tokens(chance.randint(1, 400), chance.randint(1, 400))
            try:
                budget.reserve(bound)
            except BudgetReached:
                return refused.set()
            budget.settle(bound, Tokens(chance.randint(0, bound.read), chance.randint(0, bound.written)))
            assert budget.spent.cost <= 0.02

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert 0.02 - 0.0012 < budget.spent.cost <= 0.02, "stopped earlier than the greatest request explains"


def test_a_reservation_is_waited_for():
    """The second request does not fit beside the first one's upper bound, but beside what the first one needs."""
    budget = Budget(max_total_tokens=100)
    budget.reserve(Tokens(40, 40))
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(budget.reserve, Tokens(30, 30))
        time.sleep(0.05)
        assert not second.done()
        budget.settle(Tokens(40, 40), Tokens(10, 10))
        second.result(timeout=5)
    assert budget.spent == Spending(2, 10, 10, 0.0)


def texts_of(error):
    """Yield all that an error, its causes and its contexts could show."""
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield from (str(error), repr(error), repr(vars(error)), "".join(traceback.format_exception(error)))
        error = error.__cause__ or error.__context__


ECHOES = [
    failure(400, f"your key {KEY} is fine, the request is not"),
    failure(401, f"Incorrect API key provided: {KEY}"),
    failure(404, f"{KEY} has no such model"),
    failure(429, f"slow down, {KEY}"),
    failure(500, f"dump: Authorization: Bearer {KEY}"),
    Reply(f"not JSON, {KEY}".encode()),
    Reply({"got": KEY}),
    failure(429, KEY, Retry_After="9999"),
]


@pytest.mark.parametrize("echo", ECHOES)
def test_the_key_is_shown_nowhere(server, waits, caplog, monkeypatch, echo):
    monkeypatch.setenv("TINY_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    for name in ("openai", "openai._base_client", "httpx2", "httpx", "httpcore", "httpcore2"):
        caplog.set_level(logging.DEBUG, name)
    server.script = lambda request: echo
    endpoint = client(server, key_variable="TINY_KEY", max_attempts=2)
    with pytest.raises(EndpointError) as error:
        endpoint.ask_all([HELLO])
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}", "the server should have got the key"
    shown = [*texts_of(error.value), caplog.text, *map(str, map(vars, caplog.records)), repr(endpoint), str(endpoint)]
    assert len(caplog.records) > 2
    assert not [text for text in shown if KEY in text]
    for pickled in (endpoint, error.value):
        assert KEY.encode() not in pickle.dumps(pickled)


def test_the_key_is_taken_out_of_answers(server, monkeypatch):
    monkeypatch.setenv("TINY_KEY", KEY)
    server.script = in_turn([answer(f"I know {KEY}")])
    assert client(server, key_variable="TINY_KEY").ask(HELLO).text == "I know [key]"


def test_the_key_is_read_at_the_first_request(server, monkeypatch):
    monkeypatch.delenv("TINY_KEY", raising=False)
    endpoint = client(server, key_variable="TINY_KEY")
    with pytest.raises(
        ValueError, match=r"'tiny' at 127.*needs a key, and the environment variable TINY_KEY is not set"
    ):
        endpoint.ask(HELLO)
    monkeypatch.setenv("TINY_KEY", f"{KEY}\n")
    endpoint.ask(HELLO)
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("key", ["sk-\nsecond line", "sk-schlüssel"])
def test_a_key_that_no_header_can_hold_is_refused_unseen(server, monkeypatch, key):
    monkeypatch.setenv("TINY_KEY", key)
    with pytest.raises(ValueError, match="TINY_KEY holds no key") as error:
        client(server, key_variable="TINY_KEY").ask(HELLO)
    assert key not in "".join(texts_of(error.value))


def test_other_hosts_never_get_what_belongs_to_openai(server, monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "mine-alone")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    client(server).ask(HELLO)
    assert "mine-alone" not in str(server.requests[0].headers)


def test_openai_is_asked_with_its_own_variable(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    for base_url in (None, "https://api.openai.com/v1/"):
        endpoint = ChatEndpoint("gpt-4o-mini", base_url)
        assert endpoint.host == ""
        with pytest.raises(
            ValueError, match=r"'gpt-4o-mini' at OpenAI needs a key.*OPENAI_API_KEY is not set"
        ) as error:
            endpoint.ask(HELLO)
        assert isinstance(error.value, SourceError), "no post is to blame"


def test_a_copy_in_another_process_begins_anew(server):
    endpoint = client(server, max_requests=2, timeout_s=9)
    endpoint.ask(HELLO)
    copy = pickle.loads(pickle.dumps(endpoint))
    assert (repr(copy), copy.spent) == (repr(endpoint), Spending())
    assert copy.ask(HELLO).text == RATIONALE


@pytest.mark.parametrize("package", ["openai", "tenacity"])
def test_a_missing_package_is_named(server, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"needs {package}, which is not installed; `pip install hf-mner\[llm\]`"):
        client(server).ask(HELLO)
    for name in ("openai", "tenacity"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match="needs openai and tenacity, which are not installed"):
        client(server).ask(HELLO)


def test_nothing_is_imported_before_the_first_request():
    code = """
import sys
from hf_mner.knowledge import ChatEndpoint, EndpointAuxiliary, LlmRationales
for made in (ChatEndpoint, EndpointAuxiliary, LlmRationales):
    made("tiny", "http://localhost:1/v1")
print(sorted({"openai", "tenacity"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"model": " "}, r"`model` is ' '; expected its name"),
        ({"max_tokens": 0}, "`max_tokens` must be at least 1, got 0"),
        ({"max_attempts": 0}, "`max_attempts` must be at least 1, got 0"),
        ({"concurrency": 9}, "`concurrency` must be from 1 to 8, got 9"),
        ({"timeout_s": 0}, "`timeout_s` must be a number above 0, got 0"),
        ({"requests_per_minute": "60"}, "`requests_per_minute` must be a number above 0, got '60'"),
        ({"max_requests": -1}, "`max_requests` must be a number above 0, got -1"),
        ({"max_total_tokens": 0}, "`max_total_tokens` must be a number above 0"),
        ({"max_cost": 1.0}, "`max_cost=1.0` needs `input_price` and `output_price`"),
        ({"input_price": -1.0}, "Prices must not be below 0"),
        ({"length_field": "n_predict"}, "`length_field='n_predict'` is not known; choose 'max_tokens' or"),
    ],
)
def test_settings_are_checked(settings, text):
    with pytest.raises(ValueError, match=text):
        ChatEndpoint(**{"model": "tiny", **settings})


@pytest.mark.parametrize(
    "address", ["ftp://host/v1", "localhost:8000/v1", "file:///v1", "http://", f"http://me:{KEY}@host/v1",
                f"http://host/v1?key={KEY}", f"http://host/v1#{KEY}", 8000]
)  # fmt: skip
def test_addresses_are_checked_and_not_shown(address):
    with pytest.raises(ValueError, match=r"`base_url` .*expected an http\(s\) address") as error:
        ChatEndpoint("tiny", address)
    assert KEY not in "".join(texts_of(error.value))
