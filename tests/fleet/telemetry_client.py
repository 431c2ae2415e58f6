"""Sends telemetry with the official SDK and writes down what it handed to the exporters.

Usage: telemetry_client.py grpc|http HOST RUN SPANS LOGS POINTS EXPECTED_FILE

With FLEET_RATE it makes no more than so many spans, and then log records, in a second.
With FLEET_UNTIL, a path, it sends SPANS spans and then more of them until something is there.
With FLEET_HOST it sends there. With FLEET_TLS, a folder with ca.pem, it speaks TLS, and shows the
certificate in cert.pem and key.pem where they are there too.
"""

import itertools
import json
import os
import sys
import time
from contextlib import nullcontext

protocol, host, run, spans, logs, points, expected_file = sys.argv[1:]
host = os.environ.get("FLEET_HOST", host)
tls = os.environ.get("FLEET_TLS")
shown = ("key", "cert") if tls and os.path.exists(f"{tls}/cert.pem") else ()
spans, logs, points = int(spans), int(logs), int(points)
# Larger than what is sent, so that the SDK itself drops nothing.
QUEUE = 100_000

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import Counter, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

if protocol == "grpc":
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    import grpc

    def options(signal):
        if not tls:
            return {"endpoint": f"http://{host}:4317", "insecure": True}
        pem = [open(f"{tls}/{name}.pem", "rb").read() for name in ("ca", *shown)]
        return {"endpoint": f"https://{host}:4317", "credentials": grpc.ssl_channel_credentials(*pem)}
else:
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    def options(signal):
        if not tls:
            return {"endpoint": f"http://{host}:4318/v1/{signal}"}
        names = {"key": "client_key_file", "cert": "client_certificate_file"}
        return {
            "endpoint": f"https://{host}:4318/v1/{signal}",
            "certificate_file": f"{tls}/ca.pem",
            **{names[name]: f"{tls}/{name}.pem" for name in shown},
        }


RATE = float(os.environ.get("FLEET_RATE", "inf"))
UNTIL = os.environ.get("FLEET_UNTIL")


def paced(wanted):
    """Counts up while `wanted`, no faster than RATE: late ones follow at once."""
    begun = time.monotonic()
    for number in itertools.count():
        if not wanted(number):
            break
        early = begun + number / RATE - time.monotonic()
        if early > 0.01:
            time.sleep(early)
        yield number


expected = {"spans": {}, "logs": {}, "points": {}}
failures = []


def note(result):
    """Remembers that an exporter gave up."""
    if result.name != "SUCCESS":
        failures.append(str(result))
    return result


class SpanExporter(OTLPSpanExporter):
    def export(self, batch):
        for span in batch:
            expected["spans"][f"{span.context.span_id:016x}"] = {
                "traceId": f"{span.context.trace_id:032x}",
                "name": span.name,
                "start": str(span.start_time),
                "end": str(span.end_time),
                "attributes": dict(span.attributes),
            }
        return note(super().export(batch))


class LogExporter(OTLPLogExporter):
    def export(self, batch):
        for item in batch:
            record = item.log_record
            expected["logs"][record.body] = {
                "time": str(record.timestamp),
                "observed": str(record.observed_timestamp),
                "traceId": f"{record.trace_id:032x}" if record.trace_id else "",
                "spanId": f"{record.span_id:016x}" if record.span_id else "",
                "severity": record.severity_number.value,
                "attributes": dict(record.attributes),
            }
        return note(super().export(batch))


class MetricExporter(OTLPMetricExporter):
    def export(self, data, *args, **kwargs):
        for resource in data.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    if metric.name != f"{run}.requests":
                        continue
                    for point in metric.data.data_points:
                        expected["points"][point.attributes["route"]] = {
                            "value": str(point.value),
                            "time": str(point.time_unix_nano),
                            "start": str(point.start_time_unix_nano),
                        }
        return note(super().export(data, *args, **kwargs))


resource = Resource.create({"service.name": f"shop-{run}", "run": run})
started = time.time()

tracers = TracerProvider(resource=resource)
tracers.add_span_processor(BatchSpanProcessor(SpanExporter(**options("traces")), max_queue_size=QUEUE))
tracer = tracers.get_tracer("fleet")
made = 0
for number in paced(lambda number: number < spans or (UNTIL and not os.path.exists(UNTIL))):
    made = number + 1
    attributes = {"number": number, "share": number / 7, "even": number % 2 == 0, "text": f"Grüße {number}"}
    with tracer.start_as_current_span(f"{run}-{number}", attributes=attributes):
        pass
took = time.time() - started
assert tracers.force_flush(120_000)
assert len(expected["spans"]) == made, "the SDK dropped spans"

loggers = LoggerProvider(resource=resource)
loggers.add_log_record_processor(BatchLogRecordProcessor(LogExporter(**options("logs")), max_queue_size=QUEUE))
logger = loggers.get_logger("fleet")
# Its spans are not exported: they would count among those that were asked for.
requests = TracerProvider(resource=resource).get_tracer("fleet")
for number in paced(lambda number: number < logs):
    # Every other one inside a span, whose ids it then bears.
    with requests.start_as_current_span("request") if number % 2 == 0 else nullcontext():
        logger.emit(
            LogRecord(
                timestamp=time.time_ns(),
                severity_number=SeverityNumber.WARN,
                severity_text="WARN",
                body=f"{run} line {number}",
                attributes={"number": number},
            )
        )
assert loggers.force_flush(120_000)

exporter = MetricExporter(preferred_temporality={Counter: AggregationTemporality.DELTA}, **options("metrics"))
meters = MeterProvider([PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)], resource=resource)
counter = meters.get_meter("fleet").create_counter(f"{run}.requests")
for number in range(points):
    counter.add(number + 1, {"route": f"/{run}/{number}"})
assert meters.force_flush(120_000)

with open(expected_file, "w", encoding="utf-8") as file:
    json.dump(expected, file)
print(
    f"{protocol}: {made} spans ({made / took:.0f}/s), {logs} log records and {points} points "
    f"in {time.time() - started:.1f} s"
)
if failures:
    print("gave up:", failures)
sys.stdout.flush()
# A meter provider exports once more when it shuts down, so it is not shut down.
os._exit(1 if failures else 0)
