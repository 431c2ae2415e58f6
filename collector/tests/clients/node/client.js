// Sends numbered spans, log records and data points with the official SDK at its defaults.
//
// Usage: client.js grpc|http/protobuf|http/json RUN COUNT SECONDS
//
// Endpoint, certificates and headers come from the SDK's own OTEL_EXPORTER_OTLP_* variables. Prints
// one line of JSON: what the exporters gave up, and how long each of their sends took.
'use strict';

const { diag, DiagConsoleLogger, DiagLogLevel } = require('@opentelemetry/api');
const { resourceFromAttributes } = require('@opentelemetry/resources');
const { BasicTracerProvider, BatchSpanProcessor } = require('@opentelemetry/sdk-trace-base');
const { MeterProvider, PeriodicExportingMetricReader } = require('@opentelemetry/sdk-metrics');
const { LoggerProvider, BatchLogRecordProcessor } = require('@opentelemetry/sdk-logs');

const [protocol, run] = process.argv.slice(2, 4);
const [count, seconds] = process.argv.slice(4, 6).map(Number);
const flavour = { grpc: 'grpc', 'http/protobuf': 'proto', 'http/json': 'http' }[protocol];
const { OTLPTraceExporter } = require(`@opentelemetry/exporter-trace-otlp-${flavour}`);
const { OTLPMetricExporter } = require(`@opentelemetry/exporter-metrics-otlp-${flavour}`);
const { OTLPLogExporter } = require(`@opentelemetry/exporter-logs-otlp-${flavour}`);

// An SDK limits the streams of one metric, to 2,000 by default.
const MOST_POINTS = 1000;
// How many items are made before a rest.
const BURST = 100;

diag.setLogger({ ...new DiagConsoleLogger(), error: console.error, warn: console.error }, DiagLogLevel.WARN);

const failures = [];
const milliseconds = { traces: [], metrics: [], logs: [] };

// Makes an exporter note how long each send takes and whether it gives up.
function measured(exporter, signal) {
  const send = exporter.export.bind(exporter);
  exporter.export = (items, done) => {
    const begun = performance.now();
    send(items, (result) => {
      milliseconds[signal].push(performance.now() - begun);
      if (result.code !== 0) {
        failures.push(`${signal}: ${result.error}`);
      }
      done(result);
    });
  };
  return exporter;
}

const resource = resourceFromAttributes({ 'service.name': 'client', run });
const tracers = new BasicTracerProvider({
  resource,
  spanProcessors: [new BatchSpanProcessor(measured(new OTLPTraceExporter(), 'traces'))],
});
const meters = new MeterProvider({
  resource,
  readers: [new PeriodicExportingMetricReader({ exporter: measured(new OTLPMetricExporter(), 'metrics') })],
});
const loggers = new LoggerProvider({
  resource,
  processors: [new BatchLogRecordProcessor({ exporter: measured(new OTLPLogExporter(), 'logs') })],
});

async function main() {
  const tracer = tracers.getTracer('client');
  const logger = loggers.getLogger('client');
  const counter = meters.getMeter('client').createCounter(run);
  for (let number = 0; number < count; number += 1) {
    tracer.startSpan(`${run}-${number}`, { attributes: { number, text: 'Grüße' } }).end();
    logger.emit({
      timestamp: Date.now(), severityNumber: 13, severityText: 'WARN',
      body: `${run}-${number}`, attributes: { number },
    });
    if (number < MOST_POINTS) {
      counter.add(number + 1, { number });
    }
    if (number % BURST === BURST - 1) {
      const rest = Math.max(0.02, (seconds * BURST) / count);
      await new Promise((resolve) => setTimeout(resolve, rest * 1000));
    }
  }
  for (const provider of [tracers, loggers, meters]) {
    await provider.shutdown().catch((error) => console.error(error));
  }
  process.stdout.write(`${JSON.stringify({ failures, milliseconds })}\n`);
}

main();
