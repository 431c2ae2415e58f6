//! The configurations under which both collectors are compared.
//!
//! In: nothing. Out: YAML that both read. Invariant: nothing in it depends on time or chance.

/// A configuration; its processors are those of all pipelines unless it names them by signal.
pub(crate) struct Configuration {
    pub(crate) name: &'static str,
    processors: &'static str,
    traces: &'static str,
    metrics: &'static str,
    logs: &'static str,
    /// The processors of the pipelines behind a `forward` connector; without any there is none.
    behind: &'static [&'static str],
    exporter: &'static str,
    /// Whether anything comes out otherwise than it went in.
    pub(crate) edits: bool,
    /// Whether items come out some time after the answer.
    pub(crate) is_late: bool,
}

const GRPC: &str = "otlp: {endpoint: '127.0.0.1:TARGET', tls: {insecure: true}, sending_queue: {enabled: false}, retry_on_failure: {enabled: false}}";

const HTTP: &str = "otlphttp: {endpoint: 'http://127.0.0.1:TARGET', sending_queue: {enabled: false}, retry_on_failure: {enabled: false}}";

const fn same(name: &'static str, processors: &'static str, list: &'static str) -> Configuration {
    Configuration {
        name,
        processors,
        traces: list,
        metrics: list,
        logs: list,
        behind: &[],
        exporter: GRPC,
        edits: true,
        is_late: false,
    }
}

/// All of them.
pub(crate) const CONFIGURATIONS: &[Configuration] = &[
    Configuration {
        edits: false,
        ..same("nothing", "{}", "[]")
    },
    Configuration { edits: false, exporter: HTTP, ..same("nothing over http", "{}", "[]") },
    Configuration {
        edits: false,
        is_late: true,
        ..same(
            "limiter and batch",
            "{memory_limiter: {check_interval: 1s, limit_mib: 1600, spike_limit_mib: 400}, batch: {timeout: 100ms, send_batch_size: 10, send_batch_max_size: 15}}",
            "[memory_limiter, batch]",
        )
    },
    Configuration {
        edits: false,
        behind: &["[]"],
        ..same("forward", "{}", "[]")
    },
    Configuration {
        behind: &["[attributes/first]", "[]", "[resource, attributes/second]"],
        ..same(
            "forward to several",
            "
  attributes: {actions: [{key: http.method, value: POST, action: update}]}
  attributes/first: {actions: [{key: branch, value: first, action: insert}, {key: status, action: delete}]}
  attributes/second: {actions: [{key: branch, value: second, action: insert}, {key: user.email, action: hash}]}
  resource: {attributes: [{key: host.name, value: elsewhere, action: upsert}]}
",
            "[attributes]",
        )
    },
    same(
        "resource",
        "{resource: {attributes: [
            {key: deployment.environment, value: production, action: upsert},
            {key: host.name, action: delete},
            {key: service.name, value: never, action: insert},
            {key: service.version, value: 3, action: insert},
            {key: double, value: 1.5, action: upsert},
            {key: flag, value: true, action: upsert},
            {key: copied, from_attribute: service.name, action: upsert},
            {key: missing, value: x, action: update}]}}",
        "[resource]",
    ),
    same(
        "attributes",
        "{attributes: {actions: [
            {key: environment, value: production, action: insert},
            {key: http.method, value: POST, action: update},
            {key: ratio, value: 2, action: upsert},
            {key: user.email, action: hash},
            {key: http.url, pattern: '^(?P<scheme>https?)://(?P<host>[^/]+)(?P<path>/[^?]*)', action: extract},
            {key: number.text, converted_type: int, action: convert},
            {key: status, converted_type: string, action: convert},
            {key: password, action: delete}]}}",
        "[attributes]",
    ),
    Configuration {
        traces: "[transform]",
        metrics: "[transform]",
        logs: "[transform]",
        ..same(
            "transform with functions",
            "
  transform:
    error_mode: silent
    trace_statements:
      - 'merge_maps(span.attributes, resource.attributes, \"insert\")'
      - 'merge_maps(span.attributes, ParseJSON(\"{\\\"status\\\":1,\\\"new\\\":[true,null,-2.5,{\\\"a\\\":\\\"b\\\"}]}\"), \"update\")'
      - 'set(span.attributes[\"upper\"], ConvertCase(span.name, \"upper\"))'
      - 'set(span.attributes[\"digests\"], [SHA1(span.name), SHA256(span.name), SHA512(span.name), FNV(span.name)])'
      - 'set(span.attributes[\"micros\"], Microseconds(span.end_time - span.start_time)) where span.end_time != nil'
      - 'set(span.attributes[\"begin\"], UnixMilli(span.start_time))'
      - 'set(span.attributes[\"calendar\"], [Year(span.start_time), Month(span.start_time), Day(span.start_time), Weekday(span.start_time), Hour(span.start_time), Minute(span.start_time), Second(span.start_time), Nanosecond(span.end_time)])'
      - 'set(span.start_time, TruncateTime(span.start_time, Duration(\"168h\")))'
      - 'set(span.attributes[\"parts\"], Split(span.name, \" \")) where Len(span.name) > 4'
      - 'set(span.attributes[\"part\"], Substring(span.name, 1, 3)) where IsString(span.name)'
      - 'set(span.attributes[\"numbers\"], Concat([Int(span.attributes[\"number.text\"]), Double(\"1.5\"), String(true)], \"-\"))'
      - 'merge_maps(span.attributes, ExtractPatterns(span.attributes[\"http.url\"], \"^(?P<scheme>[a-z]+)://(?P<host>[^/]*)(?P<port>:[0-9]+)?\"), \"upsert\")'
      - 'merge_maps(span.attributes, ParseKeyValue(\"a=1 b=\\\"two words\\\"  c==\"), \"insert\")'
      - 'merge_maps(span.attributes, ParseKeyValue(span.attributes[\"user.email\"], \"@\", \".\"), \"insert\")'
      - 'set(span.attributes[\"indexes\"], [Index(span.name, \"a\"), Index([1, \"b\", 2.5], 2.5), ParseInt(span.attributes[\"number.text\"], 16), ParseInt(\"-0x1F\", 0)])'
      - 'replace_match(span.attributes[\"http.url\"], \"https://*/{a,b}?user=*\", \"https://{host}/{path}\")'
      - 'replace_all_matches(span.attributes, \"[!a-f]*.??\", \"matched\")'
      - 'replace_match(span.name, \"GET *\", \"GET\")'
      - 'delete_matching_keys(span.attributes, \"^http\")'
      - 'replace_all_patterns(span.attributes, \"value\", \"anna\", \"***\")'
      - 'replace_all_patterns(span.attributes, \"key\", \"user\", \"person\")'
    metric_statements:
      - 'merge_maps(datapoint.attributes, resource.attributes, \"upsert\")'
    log_statements:
      - 'merge_maps(log.attributes, ParseJSON(log.body), \"upsert\") where IsString(log.body)'
      - 'set(log.attributes[\"parsed\"], ParseJSON(\"[1,[],{}]\"))'
      - 'keep_matching_keys(log.attributes, \"^(http|parsed)\")'
",
            "",
        )
    },
    same(
        "transform with a cache",
        "
  transform:
    error_mode: silent
    trace_statements:
      - 'set(span.cache[\"url\"], span.attributes[\"http.url\"])'
      - 'merge_maps(span.cache, ExtractPatterns(span.cache[\"url\"], \"://(?P<host>[^/]*)\"), \"upsert\")'
      - 'set(span.attributes[\"host\"], span.cache[\"host\"]) where span.cache[\"host\"] != nil'
      - 'set(span.attributes[\"nested\"][\"a\"][\"b\"], span.name)'
      - 'set(span.attributes[\"nested\"][\"list\"], [1, \"two\"])'
      - 'set(span.attributes[\"nested\"][\"list\"][0], 3.5)'
      - 'set(span.attributes[\"user.email\"][\"no\"], 1)'
    metric_statements:
      - 'set(datapoint.cache[\"all\"], datapoint.attributes)'
      - 'delete_key(datapoint.cache[\"all\"], \"http.url\")'
      - 'set(datapoint.attributes, datapoint.cache[\"all\"])'
    log_statements:
      - 'set(log.cache[\"all\"], ParseJSON(\"{\\\"a\\\":{\\\"b\\\":[1,{\\\"c\\\":null}]},\\\"d\\\":\\\"e\\\",\\\"a.b\\\":{}}\"))'
      - 'merge_maps(log.cache, log.cache[\"all\"], \"upsert\")'
      - 'keep_matching_keys(log.cache, \"^[ad]\")'
      - 'delete_key(log.cache, \"all\")'
      - 'merge_maps(log.attributes, log.cache, \"insert\")'
      - 'flatten(log.attributes)'
      - 'set(log.body[\"set\"], log.cache[\"a\"]) where IsMap(log.body)'
      - 'delete_key(log.body, \"k\") where IsMap(log.body)'
      - 'flatten(log.body, \"body\", 1) where IsMap(log.body)'
",
        "[transform]",
    ),
    same(
        "transform with names and maps",
        "
  transform:
    error_mode: silent
    trace_statements:
      - 'set(value=span.name, target=span.attributes[\"name\"])'
      - 'merge_maps(span.attributes, {\"braces\": {\"a\": [1, span.name, {\"b\": -0.5}]}, \"nil\": nil \"status\": true, \"digest\": MD5(span.name)}, strategy=\"upsert\")'
      - 'merge_maps(target=span.attributes, source={\"late\": span.start_time, \"never\": 1}, strategy=\"insert\")'
      - 'set(span.attributes[\"cases\"], [ConvertCase(span.name, \"snake\"), ConvertCase(to_case=\"camel\", target=span.name), ToSnakeCase(\"JSONData2 x-Y.z\"), ToCamelCase(\"JSONData2 x-Y.z\")])'
      - 'append(span.attributes[\"status\"], 2)'
      - 'append(span.attributes[\"array\"], values=[span.name, [1, \"two\"], nil, 2.5])'
      - 'append(span.attributes[\"map\"], 1)'
      - 'append(span.attributes[\"bytes\"], span.attributes[\"bytes\"])'
      - 'append(span.attributes[\"no kind\"], \"first\", values=[\"second\"])'
      - 'append(span.attributes[\"new\"], span.end_time)'
      - 'append(span.attributes[\"int\"], value=true)'
      - 'replace_pattern(span.attributes[\"http.url\"], replacement=\"?\", regexPattern=\"[?].*\")'
      - 'merge_maps(span.attributes, ParseKeyValue(\"a=1;b=2\", pair_delimiter=\";\"), strategy=\"insert\")'
      - 'set(span.attributes[\"uuid\"], IsMatch(UUID(), \"^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$\"))'
      - 'delete_key(key=\"ratio\", target=span.attributes)'
      - 'set(span.status.message, \"as is\") where span.attributes[\"empty map\"] == {} and span.attributes[\"array\"] != {\"k\": 1}'
    metric_statements:
      - 'set(datapoint.attributes[\"seen\"], {\"by\": datapoint.attributes[\"status\"]})'
      - 'limit(datapoint.attributes, priority_keys=[\"seen\"], limit=2)'
    log_statements:
      - 'append(log.body, \"more\")'
      - 'append(log.cache[\"list\"], log.severity_text)'
      - 'append(log.cache[\"list\"], log.severity_number)'
      - 'set(log.attributes[\"list\"], log.cache[\"list\"])'
      - 'flatten(log.attributes, depth=1)'
",
        "[transform]",
    ),
    same(
        "transform with formats",
        "
  transform:
    error_mode: silent
    trace_statements:
      - 'set(span.attributes[\"plain\"], Format(\"%s: %v %d%% of %8.3f|%-8s|%08.2f %q\", [span.name, span.attributes[\"status\"], span.attributes[\"status\"], span.attributes[\"ratio\"], span.attributes[\"http.method\"], span.attributes[\"ratio\"], span.attributes[\"user.email\"]]))'
      - 'set(span.attributes[\"of every kind\"], Format(\"%v %v %v %v %q %x\", [span.attributes[\"string\"], span.attributes[\"true\"], span.attributes[\"int\"], span.attributes[\"double\"], span.attributes[\"string\"], span.attributes[\"bytes\"]]))'
      - 'set(span.attributes[\"unfit\"], Format(\"%d %s %t %5d\", [span.name, span.kind, span.attributes[\"ratio\"], span.attributes[\"absent\"]]))'
      - 'set(span.attributes[\"ids\"], Format(\"%s-%s-%[1]s\", [span.trace_id, span.span_id]))'
      - 'set(span.attributes[\"id texts\"], [span.trace_id.string, span.span_id.string, span.parent_span_id.string])'
      - 'set(span.attributes[\"is root\"], true) where span.parent_span_id == SpanID(0x0000000000000000)'
      - 'set(span.attributes[\"took\"], Format(format=\"%s %v\", vals=[span.end_time - span.start_time, span.start_time]))'
      - 'set(span.attributes[\"list\"], Format(\"%v\", [[1, \"two\", 2.5, [true]]]))'
      - 'set(span.name, Format(\"%.3s…\", [span.name])) where Len(span.name) > 3'
    metric_statements:
      - 'set(datapoint.attributes[\"double\"], Format(\"%g %e %.3g %+v\", [datapoint.value_double, datapoint.value_double, datapoint.value_double, datapoint.value_int]))'
      - 'set(datapoint.attributes[\"of\"], Format(\"%s in %s\", [metric.name, metric.unit]))'
    log_statements:
      - 'set(log.severity_text, Format(\"%02d\", [log.severity_number]))'
      - 'set(log.attributes[\"hex\"], Format(\"%#x %b %o %c %U\", [log.severity_number, log.severity_number, log.flags, log.severity_number, log.severity_number]))'
",
        "[transform]",
    ),
    same(
        "transform with times",
        "
  transform:
    error_mode: silent
    trace_statements:
      - 'set(span.attributes[\"written\"], [FormatTime(span.start_time, \"%Y-%m-%dT%H:%M:%S.%f%z\"), FormatTime(span.end_time, \"%a, %d %b %y %I:%M:%S.%L %p %Z\"), FormatTime(format=\"%A %B %e %g %l %q %o %j %D\", time=span.end_time)])'
      - 'set(span.attributes[\"seconds\"], UnixNano(Time(\"2023-05-26 12:34:56.789 -0730\", \"%F %T.%L %z\")))'
      - 'set(span.attributes[\"place\"], FormatTime(Time(\"26/May/2023:12:34:56\", \"%d/%b/%Y:%H:%M:%S\", \"Europe/Berlin\"), \"%c %Z %z %k\"))'
      - 'set(span.attributes[\"hours\"], [Hour(Time(\"23:59 +0200\", \"%R %z\")), Hour(Unix(1685104496)), Day(Time(\"2024-02-29 11 PM\", format=\"%F %I %p\", location=\"Asia/Tokyo\"))])'
      - 'set(span.attributes[\"zone\"], FormatTime(Time(\"2023-01-26 12:34:56 EST\", \"%F %T %Z\"), \"%F %R %Z\"))'
      - 'set(span.attributes[\"never\"], FormatTime(Time(span.name, \"%F\"), \"%F\"))'
      - 'set(span.attributes[\"text\"], FormatTime(Time(span.attributes[\"number.text\"], \"%M\"), \"%M:%S\"))'
      - 'set(span.start_time, TruncateTime(Time(\"2023-05-26T12:34:56+05:30\", \"%FT%T%j\"), Duration(\"1h\")))'
      - 'set(span.end_time, Time(\"2023-05-26 12:34:56,5\", \"%F %T\") + Duration(\"1s\"))'
      - 'set(span.attributes[\"took\"], Milliseconds(span.end_time - Time(\"2023-05-26\", \"%F\")))'
    metric_statements:
      - 'set(datapoint.attributes[\"day\"], FormatTime(datapoint.time, \"%F\"))'
    log_statements:
      - 'set(log.attributes[\"written\"], FormatTime(log.time, \"%s.%s%%%n%t_%Y 2006\"))'
      - 'set(log.observed_time, Time(log.attributes[\"number.text\"], \"%S\", \"UTC\")) where log.attributes[\"number.text\"] != nil'
",
        "[transform]",
    ),
    Configuration {
        metrics: "[]",
        logs: "[]",
        ..same(
            "attributes of what is included",
            "{attributes: {include: {match_type: regexp, services: ['a .*']}, actions: [{key: seen, value: true, action: insert}]}}",
            "[attributes]",
        )
    },
    Configuration {
        traces: "[filter/traces]",
        metrics: "[filter/metrics]",
        logs: "[filter/logs]",
        ..same(
            "filter by conditions",
            "
  filter/traces:
    error_mode: ignore
    traces:
      span:
        - 'attributes[\"http.target\"] == \"/health\"'
        - 'IsMatch(name, \"^many 1\")'
        - 'end_time_unix_nano - start_time_unix_nano < 100000000 and status.code != 2'
        - 'resource.attributes[\"service.name\"] == \"no ids\"'
  filter/metrics:
    error_mode: ignore
    metrics:
      metric:
        - 'IsMatch(name, \"^debug\\\\..*\")'
      datapoint:
        - 'attributes[\"status\"] == 404'
  filter/logs:
    error_mode: ignore
    logs:
      log_record:
        - 'severity_number < SEVERITY_NUMBER_WARN'
        - 'IsMatch(body, \"password\")'
",
            "",
        )
    },
    Configuration {
        traces: "[filter/strict]",
        metrics: "[filter/names]",
        logs: "[filter/logs]",
        ..same(
            "filter by include and exclude",
            "
  filter/strict: {spans: {exclude: {match_type: strict, span_names: ['GET /health', 'a span']}}}
  filter/names: {metrics: {exclude: {match_type: regexp, metric_names: ['debug\\..*', '.*histogram']}}}
  filter/logs: {logs: {include: {match_type: strict, severity_texts: [ERROR, S3]}}}
",
            "",
        )
    },
    Configuration {
        traces: "[transform]",
        metrics: "[transform]",
        logs: "[transform]",
        ..same(
            "transform",
            "
  transform:
    error_mode: ignore
    trace_statements:
      - context: span
        statements:
          - 'set(attributes[\"environment\"], \"production\")'
          - 'set(status.code, 1) where attributes[\"status\"] == 200'
          - 'delete_key(attributes, \"user.email\")'
          - 'replace_pattern(attributes[\"http.url\"], \"user=[^&]*\", \"user=***\")'
          - 'truncate_all(attributes, 12)'
    metric_statements:
      - context: datapoint
        statements:
          - 'keep_keys(attributes, [\"http.method\", \"status\"])'
    log_statements:
      - context: log
        statements:
          - 'replace_pattern(body, \"password=\\\\S+\", \"password=***\")'
          - 'limit(attributes, 3, [\"http.method\"])'
",
            "",
        )
    },
    Configuration {
        metrics: "[]",
        ..same(
            "sample by a hash",
            "{probabilistic_sampler: {sampling_percentage: 30, hash_seed: 22, mode: hash_seed}}",
            "[probabilistic_sampler]",
        )
    },
    Configuration {
        metrics: "[]",
        ..same(
            "sample what there ever was",
            "{probabilistic_sampler: {sampling_percentage: 40, mode: equalizing, sampling_precision: 3}}",
            "[probabilistic_sampler]",
        )
    },
    Configuration {
        metrics: "[]",
        ..same(
            "sample what arrives",
            "{probabilistic_sampler: {sampling_percentage: 61.7, mode: proportional, fail_closed: false, sampling_priority: status}}",
            "[probabilistic_sampler]",
        )
    },
    Configuration {
        metrics: "[]",
        ..same(
            "sample records by an attribute",
            "{probabilistic_sampler: {sampling_percentage: 55.5, hash_seed: 3, fail_closed: false, attribute_source: record, from_attribute: http.url, sampling_priority: status}}",
            "[probabilistic_sampler]",
        )
    },
];

impl Configuration {
    /// In how many pipelines an item leaves.
    pub(crate) fn branches(&self) -> usize {
        self.behind.len().max(1)
    }

    /// The configuration, with names in place of ports.
    pub(crate) fn yaml(&self) -> String {
        let exporter = self.exporter.split(':').next().unwrap();
        let connectors = match self.behind.is_empty() {
            true => "{}",
            false => "{forward: {}}",
        };
        let first = if self.behind.is_empty() {
            exporter
        } else {
            "forward"
        };
        let lists = [
            ("traces", self.traces),
            ("metrics", self.metrics),
            ("logs", self.logs),
        ];
        let mut pipelines = String::new();
        let mut pipeline = |name: &str, from: &str, list: &str, to: &str| {
            let text = format!("{{receivers: [{from}], processors: {list}, exporters: [{to}]}}");
            pipelines.push_str(&format!("    {name}: {text}\n"));
        };
        for (signal, list) in lists {
            pipeline(signal, "otlp", list, first);
            for (number, list) in self.behind.iter().enumerate() {
                pipeline(&format!("{signal}/{number}"), "forward", list, exporter);
            }
        }
        format!(
            "receivers:
  otlp:
    protocols:
      grpc: {{endpoint: '127.0.0.1:GRPC'}}
      http: {{endpoint: '127.0.0.1:HTTP'}}
processors: {}
connectors: {connectors}
exporters: {{{}}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
{pipelines}",
            self.processors, self.exporter
        )
    }
}
