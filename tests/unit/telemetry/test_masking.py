"""No span leaves with what a person wrote."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Link, SpanContext, Status, StatusCode, TraceFlags, TraceState

from app.governance.privacy import scrub
from app.telemetry.masking import MaskedExporter, without_query
from tests.support.examples import examples

PLANTED = ("ada.hartmann@example.org", "+49 171 1234567", "4111 1111 1111 1111", "POL-00123456", "trl_abcdefghij12")


class Kept(SpanExporter):
    def __init__(self, result: SpanExportResult = SpanExportResult.SUCCESS) -> None:
        self.spans: list[ReadableSpan] = []
        self.result = result

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.spans += spans
        return self.result


class Room:
    def __init__(self, result: SpanExportResult = SpanExportResult.SUCCESS) -> None:
        self.kept = Kept(result)
        self.counted: list[tuple[str, int]] = []
        about = Resource({"service.name": "trellis-api"})
        exporter = MaskedExporter(self.kept, scrub, about, lambda result, spans: self.counted.append((result, spans)))
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        self.tracer = provider.get_tracer("a library")

    @property
    def text(self) -> str:
        return "\n".join(f"{span.to_json()} {span.context} {span.parent}" for span in self.kept.spans)


@settings(max_examples=examples(60))
@given(st.sampled_from(PLANTED), st.sampled_from(["", "for ", "to: "]))
def test_planted_data_appears_nowhere_in_a_span(planted: str, before: str) -> None:
    room, told = Room(), before + planted
    state = SpanContext(
        3, 4, is_remote=True, trace_flags=TraceFlags(1), trace_state=TraceState([("who", "ada@example.org")])
    )
    parent = trace.set_span_in_context(trace.NonRecordingSpan(state))
    links = [Link(state, {"of": told})]
    with room.tracer.start_as_current_span(f"GET {told}", parent, attributes={"a": told}, links=links) as span:
        span.set_attribute("several", (told, "more"))
        span.set_attribute("url.full", f"https://ada:pass@example.org/x?of={told}")
        span.set_attribute("url.query", told)
        span.set_attribute("db.query.text", f"SELECT '{told}'")
        span.add_event(told, {"body": told})
        span.record_exception(ValueError(told))
        span.set_status(Status(StatusCode.ERROR, f"ValueError: {told}"))
    (masked,) = room.kept.spans
    assert planted not in room.text
    assert "ada@example.org" not in room.text
    assert masked.parent is not None
    assert not masked.parent.trace_state
    assert dict(masked.resource.attributes) == {"service.name": "trellis-api"}


def test_words_of_errors_and_query_strings_are_left_out_whatever_they_look_like() -> None:
    room = Room()
    with room.tracer.start_as_current_span("call") as span:
        span.set_attribute("url.query", "name=Zanzibar")
        span.set_attribute("url.full", "https://example.org/v1/x?name=Zanzibar#Zanzibar")
        span.record_exception(ValueError("Zanzibar lives at home"))
        span.set_status(Status(StatusCode.ERROR, "ValueError: Zanzibar lives at home"))
    (masked,) = room.kept.spans
    assert "Zanzibar" not in room.text
    assert masked.status.description == "ValueError"
    assert masked.attributes == {"url.full": "https://example.org/v1/x"}
    assert [dict(event.attributes or {})["exception.type"] for event in masked.events] == ["ValueError"]


def test_what_holds_nothing_personal_stays_as_it_is() -> None:
    room = Room()
    told = {"http.route": "/v1/leads/{lead_id}", "gen_ai.usage.input_tokens": 1990, "trellis.cost.usd": 0.0012}
    with room.tracer.start_as_current_span("POST /v1/leads", attributes=told):
        pass
    (masked,) = room.kept.spans
    assert masked.name == "POST /v1/leads"
    assert dict(masked.attributes or {}) == told
    assert room.counted == [("exported", 1)]


def test_a_batch_that_was_not_taken_counts_as_failed() -> None:
    room = Room(SpanExportResult.FAILURE)
    room.tracer.start_span("one").end()
    assert room.counted == [("failed", 1)]


def test_an_address_that_cannot_be_read_is_no_address() -> None:
    assert without_query("https://[half/x?secret=1") == "[address]"
