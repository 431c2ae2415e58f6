// Sends numbered spans, log records and data points with the official SDK at its defaults.
//
// Usage: client grpc|http/protobuf RUN COUNT SECONDS
//
//	client pings ENDPOINT SECONDS
//
// Endpoint, certificates and headers come from the SDK's own OTEL_EXPORTER_OTLP_* variables. Prints
// one line of JSON: what the exporters gave up, and how long each of their sends took.
//
// The second form keeps a connection without calls and asks every ten seconds, which is the least
// that gRPC allows, whether the server lives. Prints how often the connection was made.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"strconv"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploggrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	otellog "go.opentelemetry.io/otel/log"
	"go.opentelemetry.io/otel/metric"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

const (
	// An SDK limits the streams of one metric, to 2,000 by default.
	mostPoints = 1000
	// How many items are made before a rest.
	burst = 100
)

// outcome is what is printed at the end.
type outcome struct {
	mutex        sync.Mutex
	Failures     []string             `json:"failures"`
	Milliseconds map[string][]float64 `json:"milliseconds"`
}

var result = outcome{Failures: []string{}, Milliseconds: map[string][]float64{
	"traces": {}, "metrics": {}, "logs": {},
}}

func (o *outcome) note(signal string, begun time.Time, err error) error {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	elapsed := float64(time.Since(begun).Microseconds()) / 1000
	o.Milliseconds[signal] = append(o.Milliseconds[signal], elapsed)
	if err != nil {
		o.Failures = append(o.Failures, signal+": "+err.Error())
	}
	return err
}

type spans struct{ sdktrace.SpanExporter }

func (e spans) ExportSpans(ctx context.Context, batch []sdktrace.ReadOnlySpan) error {
	begun := time.Now()
	return result.note("traces", begun, e.SpanExporter.ExportSpans(ctx, batch))
}

type metrics struct{ sdkmetric.Exporter }

func (e metrics) Export(ctx context.Context, batch *metricdata.ResourceMetrics) error {
	begun := time.Now()
	return result.note("metrics", begun, e.Exporter.Export(ctx, batch))
}

type logs struct{ sdklog.Exporter }

func (e logs) Export(ctx context.Context, batch []sdklog.Record) error {
	begun := time.Now()
	return result.note("logs", begun, e.Exporter.Export(ctx, batch))
}

func exporters(ctx context.Context, protocol string) (spans, metrics, logs, error) {
	var s spans
	var m metrics
	var l logs
	var err [3]error
	switch protocol {
	case "grpc":
		s.SpanExporter, err[0] = otlptracegrpc.New(ctx)
		m.Exporter, err[1] = otlpmetricgrpc.New(ctx)
		l.Exporter, err[2] = otlploggrpc.New(ctx)
	case "http/protobuf":
		s.SpanExporter, err[0] = otlptracehttp.New(ctx)
		m.Exporter, err[1] = otlpmetrichttp.New(ctx)
		l.Exporter, err[2] = otlploghttp.New(ctx)
	default:
		return s, m, l, fmt.Errorf("%s: the Go SDK does not speak it", protocol)
	}
	for _, e := range err {
		if e != nil {
			return s, m, l, e
		}
	}
	return s, m, l, nil
}

func pings(endpoint string, seconds float64) error {
	eager := keepalive.ClientParameters{Time: 10 * time.Second, PermitWithoutStream: true}
	plain := grpc.WithTransportCredentials(insecure.NewCredentials())
	connection, err := grpc.NewClient(endpoint, plain, grpc.WithKeepaliveParams(eager))
	if err != nil {
		return err
	}
	defer connection.Close()
	rest := time.Duration(seconds * float64(time.Second))
	ctx, cancel := context.WithTimeout(context.Background(), rest)
	defer cancel()
	made := 0
	for {
		state := connection.GetState()
		switch state {
		case connectivity.Ready:
			made++
		case connectivity.Idle:
			connection.Connect()
		}
		if !connection.WaitForStateChange(ctx, state) {
			break
		}
	}
	fmt.Println("connections:", made)
	return nil
}

func main() {
	if os.Args[1] == "pings" {
		seconds, err := strconv.ParseFloat(os.Args[3], 64)
		if err == nil {
			err = pings(os.Args[2], seconds)
		}
		if err != nil {
			log.Fatal(err)
		}
		return
	}
	protocol, run := os.Args[1], os.Args[2]
	count, err := strconv.Atoi(os.Args[3])
	if err != nil {
		log.Fatal(err)
	}
	seconds, err := strconv.ParseFloat(os.Args[4], 64)
	if err != nil {
		log.Fatal(err)
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Print(err) }))
	ctx := context.Background()
	s, m, l, err := exporters(ctx, protocol)
	if err != nil {
		log.Fatal(err)
	}
	about := resource.NewSchemaless(
		attribute.String("service.name", "client"), attribute.String("run", run))
	tracers := sdktrace.NewTracerProvider(sdktrace.WithBatcher(s), sdktrace.WithResource(about))
	meters := sdkmetric.NewMeterProvider(
		sdkmetric.WithReader(sdkmetric.NewPeriodicReader(m)), sdkmetric.WithResource(about))
	loggers := sdklog.NewLoggerProvider(
		sdklog.WithProcessor(sdklog.NewBatchProcessor(l)), sdklog.WithResource(about))
	tracer := tracers.Tracer("client")
	logger := loggers.Logger("client")
	counter, err := meters.Meter("client").Int64Counter(run)
	if err != nil {
		log.Fatal(err)
	}
	for number := range count {
		name := fmt.Sprintf("%s-%d", run, number)
		_, span := tracer.Start(ctx, name, trace.WithAttributes(
			attribute.Int("number", number), attribute.String("text", "Grüße")))
		span.End()
		var record otellog.Record
		record.SetTimestamp(time.Now())
		record.SetSeverity(otellog.SeverityWarn)
		record.SetSeverityText("WARN")
		record.SetBody(attribute.StringValue(name))
		record.AddAttributes(attribute.Int("number", number))
		logger.Emit(ctx, record)
		if number < mostPoints {
			counter.Add(ctx, int64(number+1), metric.WithAttributes(attribute.Int("number", number)))
		}
		if number%burst == burst-1 {
			rest := max(0.02, seconds*burst/float64(count))
			time.Sleep(time.Duration(rest * float64(time.Second)))
		}
	}
	for _, shutdown := range []func(context.Context) error{
		tracers.Shutdown, loggers.Shutdown, meters.Shutdown,
	} {
		if err := shutdown(ctx); err != nil {
			log.Print(err)
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(&result); err != nil {
		log.Fatal(err)
	}
}
