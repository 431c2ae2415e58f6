"""Sends numbered spans, log records and data points with the official SDK at its defaults.

Usage: client.py grpc|http/protobuf RUN COUNT SECONDS

Endpoint, certificates and headers come from the SDK's own OTEL_EXPORTER_OTLP_* variables. Prints
one line of JSON: what the exporters gave up, and how long each of their sends took.
"""

import json
import os
import sys
import time

protocol, run, count, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

if protocol == "grpc":
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
elif protocol == "http/protobuf":
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
else:
    sys.exit(f"{protocol}: the Python SDK does not speak it")

# An SDK limits the streams of one metric, to 2,000 by default.
MOST_POINTS = 1_000
# How many items are made before a rest.
BURST = 100

failures = []
milliseconds = {"traces": [], "metrics": [], "logs": []}


def measured(exporter, signal):
    """The exporter, which notes how long each send takes and whether it gives up."""

    class Measured(exporter):
        def export(self, *args, **kwargs):
            begun = time.monotonic()
            result = super().export(*args, **kwargs)
            milliseconds[signal].append((time.monotonic() - begun) * 1000)
            if result.name != "SUCCESS":
                failures.append(f"{signal}: {result}")
            return result

    return Measured()


resource = Resource.create({"service.name": "client", "run": run})
tracers = TracerProvider(resource=resource)
tracers.add_span_processor(BatchSpanProcessor(measured(OTLPSpanExporter, "traces")))
loggers = LoggerProvider(resource=resource)
loggers.add_log_record_processor(BatchLogRecordProcessor(measured(OTLPLogExporter, "logs")))
meters = MeterProvider(
    [PeriodicExportingMetricReader(measured(OTLPMetricExporter, "metrics"))], resource=resource
)
tracer = tracers.get_tracer("client")
logger = loggers.get_logger("client")
counter = meters.get_meter("client").create_counter(run)

for number in range(count):
    with tracer.start_as_current_span(f"{run}-{number}", attributes={"number": number, "text": "Grüße"}):
        pass
    logger.emit(
        LogRecord(
            timestamp=time.time_ns(),
            severity_number=SeverityNumber.WARN,
            severity_text="WARN",
            body=f"{run}-{number}",
            attributes={"number": number},
        )
    )
    if number < MOST_POINTS:
        counter.add(number + 1, {"number": number})
    if number % BURST == BURST - 1:
        time.sleep(max(0.02, seconds * BURST / count))

tracers.shutdown()
loggers.shutdown()
meters.shutdown()
print(json.dumps({"failures": failures, "milliseconds": milliseconds}), flush=True)
# Threads of an exporter that still waits must not keep the program.
os._exit(0)
