// Sends numbered spans, log records and data points with the official SDK at its defaults.
//
// Usage: Client grpc|http/protobuf RUN COUNT SECONDS
//
// Endpoint, certificates and headers come from the SDK's own OTEL_EXPORTER_OTLP_* variables. Prints
// one line of JSON: what the exporters gave up, and how long each of their sends took.

import io.opentelemetry.api.common.AttributeKey;
import io.opentelemetry.api.common.Attributes;
import io.opentelemetry.api.logs.Logger;
import io.opentelemetry.api.logs.Severity;
import io.opentelemetry.api.metrics.LongCounter;
import io.opentelemetry.api.trace.Tracer;
import io.opentelemetry.sdk.OpenTelemetrySdk;
import io.opentelemetry.sdk.autoconfigure.AutoConfiguredOpenTelemetrySdk;
import io.opentelemetry.sdk.common.CompletableResultCode;
import java.lang.reflect.InvocationHandler;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Proxy;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;

public final class Client {
  /** An SDK limits the streams of one metric, to 2,000 by default. */
  private static final int MOST_POINTS = 1000;

  /** How many items are made before a rest. */
  private static final int BURST = 100;

  private static final List<String> failures = new CopyOnWriteArrayList<>();
  private static final Map<String, List<Double>> milliseconds =
      Map.of(
          "traces", new CopyOnWriteArrayList<>(),
          "metrics", new CopyOnWriteArrayList<>(),
          "logs", new CopyOnWriteArrayList<>());

  /** The exporter, which notes how long each send takes and whether it gives up. */
  private static <T> T measured(T exporter, Class<T> type, String signal) {
    InvocationHandler handler =
        (proxy, method, arguments) -> {
          long begun = System.nanoTime();
          Object result;
          try {
            result = method.invoke(exporter, arguments);
          } catch (InvocationTargetException error) {
            throw error.getCause();
          }
          if (method.getName().equals("export")) {
            CompletableResultCode code = (CompletableResultCode) result;
            code.whenComplete(
                () -> {
                  milliseconds.get(signal).add((System.nanoTime() - begun) / 1e6);
                  if (!code.isSuccess()) {
                    failures.add(signal + ": " + code.getFailureThrowable());
                  }
                });
          }
          return result;
        };
    return type.cast(
        Proxy.newProxyInstance(Client.class.getClassLoader(), new Class<?>[] {type}, handler));
  }

  public static void main(String[] arguments) throws InterruptedException {
    String run = arguments[1];
    int count = Integer.parseInt(arguments[2]);
    double seconds = Double.parseDouble(arguments[3]);
    OpenTelemetrySdk sdk =
        AutoConfiguredOpenTelemetrySdk.builder()
            .addPropertiesSupplier(
                () ->
                    Map.of(
                        "otel.exporter.otlp.protocol", arguments[0],
                        "otel.service.name", "client",
                        "otel.resource.attributes", "run=" + run))
            .addSpanExporterCustomizer(
                (exporter, config) ->
                    measured(exporter, io.opentelemetry.sdk.trace.export.SpanExporter.class, "traces"))
            .addMetricExporterCustomizer(
                (exporter, config) ->
                    measured(
                        exporter, io.opentelemetry.sdk.metrics.export.MetricExporter.class, "metrics"))
            .addLogRecordExporterCustomizer(
                (exporter, config) ->
                    measured(
                        exporter, io.opentelemetry.sdk.logs.export.LogRecordExporter.class, "logs"))
            .build()
            .getOpenTelemetrySdk();
    Tracer tracer = sdk.getTracer("client");
    Logger logger = sdk.getLogsBridge().get("client");
    LongCounter counter = sdk.getMeter("client").counterBuilder(run).build();
    AttributeKey<Long> key = AttributeKey.longKey("number");
    for (int number = 0; number < count; number++) {
      String name = run + "-" + number;
      Attributes attributes = Attributes.of(key, (long) number);
      tracer
          .spanBuilder(name)
          .setAllAttributes(attributes)
          .setAttribute("text", "Grüße")
          .startSpan()
          .end();
      logger
          .logRecordBuilder()
          .setTimestamp(Instant.now())
          .setSeverity(Severity.WARN)
          .setSeverityText("WARN")
          .setBody(name)
          .setAllAttributes(attributes)
          .emit();
      if (number < MOST_POINTS) {
        counter.add(number + 1, attributes);
      }
      if (number % BURST == BURST - 1) {
        Thread.sleep((long) (Math.max(0.02, seconds * BURST / count) * 1000));
      }
    }
    sdk.getSdkTracerProvider().shutdown().join(60, TimeUnit.SECONDS);
    sdk.getSdkLoggerProvider().shutdown().join(60, TimeUnit.SECONDS);
    sdk.getSdkMeterProvider().shutdown().join(60, TimeUnit.SECONDS);
    String failed =
        failures.stream()
            .map(text -> '"' + text.replaceAll("[\"\\\\\\p{Cntrl}]", " ") + '"')
            .collect(Collectors.joining(","));
    String times =
        milliseconds.entrySet().stream()
            .map(entry -> '"' + entry.getKey() + "\":" + entry.getValue())
            .collect(Collectors.joining(","));
    System.out.println("{\"failures\":[" + failed + "],\"milliseconds\":{" + times + "}}");
    System.exit(0);
  }
}
