//! Metrics as Prometheus text of format 0.0.4.
//!
//! In: families, what describes the collector, and how metrics are called. Out: text.
//! Invariant: with nothing asked for, names are those that otelcol shows by default; with types,
//! units and scopes, those of a reader that is written without flags.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::metrics::{Family, Kind, Labels, Reading};
use crate::config::Naming;

/// The unit of a metric whose name does not end in it.
const UNITS: &[(&str, &str)] = &[
    ("otelcol_process_memory_rss", "bytes"),
    ("otelcol_process_uptime", "seconds"),
    ("otelcol_processor_internal_duration", "seconds"),
];

/// Which part of otelcol counts, by the beginning of a metric's name; the first that fits.
const SCOPES: &[(&str, &str)] = &[
    (
        "otelcol_processor_batch_",
        "go.opentelemetry.io/collector/processor/batchprocessor",
    ),
    (
        "otelcol_processor_filter_",
        "go.opentelemetry.io/collector/processor/filterprocessor",
    ),
    (
        "otelcol_processor_incoming_",
        "go.opentelemetry.io/collector/processor/processorhelper",
    ),
    (
        "otelcol_processor_internal_",
        "go.opentelemetry.io/collector/processor/processorhelper",
    ),
    (
        "otelcol_processor_outgoing_",
        "go.opentelemetry.io/collector/processor/processorhelper",
    ),
    (
        "otelcol_processor_",
        "go.opentelemetry.io/collector/processor/memorylimiterprocessor",
    ),
    (
        "otelcol_receiver_",
        "go.opentelemetry.io/collector/receiver/receiverhelper",
    ),
    (
        "otelcol_exporter_",
        "go.opentelemetry.io/collector/exporter/exporterhelper",
    ),
    ("otelcol_", "go.opentelemetry.io/collector/service"),
];

/// Which part of otelcol counts this metric; nothing when none does.
pub(super) fn scope(name: &str) -> &'static str {
    let found = SCOPES.iter().find(|(start, _)| name.starts_with(start));
    found.map_or("", |(_, scope)| scope)
}

/// What is counted, by the end of a metric's name, as otelcol has it in UCUM; the first that fits.
const COUNTED: &[(&str, &str)] = &[
    ("_seconds", "s"),
    ("_bytes", "By"),
    ("_spans", "{spans}"),
    ("_metric_points", "{datapoints}"),
    ("_log_records", "{records}"),
    ("_items", "{items}"),
    ("_queue_size", "{batches}"),
    ("_queue_capacity", "{batches}"),
    ("_send_size", "{units}"),
    ("_trigger_send", "{times}"),
    ("_cardinality", "{combinations}"),
    ("_filtered", "1"),
    ("_sampled", "1"),
];

/// The unit of a metric; nothing when otelcol has no such metric that says one.
pub(super) fn unit(name: &str) -> &'static str {
    let known = UNITS.iter().find(|(known, _)| *known == name);
    let name = known.map_or(name.to_owned(), |(name, unit)| format!("{name}_{unit}"));
    let found = COUNTED.iter().find(|(end, _)| name.ends_with(end));
    found.map_or("", |(_, unit)| unit)
}

/// The metrics as text, each under the name that `naming` asks for.
pub fn render(families: &[Family], resource: &[(String, String)], naming: &Naming) -> String {
    let mut out = String::new();
    let constant: Labels = resource
        .iter()
        .filter(|(name, _)| naming.resource_labels.takes(name))
        .map(|(name, value)| (label_name(name), value.clone()))
        .collect();
    for family in families {
        render_family(&mut out, family, &constant, naming);
    }
    let labels: Labels = resource
        .iter()
        .map(|(name, value)| (label_name(name), value.clone()))
        .collect();
    let labels = braced(&labels, None);
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "# HELP target_info Target metadata\n# TYPE target_info gauge\ntarget_info{labels} 1"
    );
    out
}

fn render_family(out: &mut String, family: &Family, constant: &Labels, naming: &Naming) {
    let name = full_name(family, naming);
    let kind = match family.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    };
    let help = family.help;
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
    let mut common = constant.clone();
    if naming.has_scope {
        let scope = scope(&family.name).to_owned();
        common.push(("otel_scope_name".to_owned(), scope));
        common.push(("otel_scope_schema_url".to_owned(), String::new()));
        common.push(("otel_scope_version".to_owned(), String::new()));
    }
    for (labels, reading) in &family.series {
        let mut labels = [&labels[..], &common].concat();
        labels.sort();
        match reading {
            Reading::Number(number) => {
                let _ = writeln!(out, "{name}{} {number}", braced(&labels, None));
            }
            Reading::Histogram { buckets, sum } => {
                for (bound, count) in buckets {
                    let _ = writeln!(
                        out,
                        "{name}_bucket{} {count}",
                        braced(&labels, Some(*bound))
                    );
                }
                let labels = braced(&labels, None);
                let count = buckets.last().map_or(0, |(_, count)| *count);
                let _ = writeln!(
                    out,
                    "{name}_sum{labels} {sum}\n{name}_count{labels} {count}"
                );
            }
        }
    }
}

fn full_name<'f>(family: &'f Family, naming: &Naming) -> Cow<'f, str> {
    let mut name = Cow::Borrowed(family.name.as_str());
    let unit = UNITS.iter().find(|(known, _)| *known == family.name);
    if let Some((_, unit)) = unit.filter(|_| naming.has_units) {
        name = format!("{name}_{unit}").into();
    }
    if naming.has_type_suffix && family.kind == Kind::Counter && !name.ends_with("_total") {
        name = format!("{name}_total").into();
    }
    name
}

fn braced(labels: &[(String, String)], bound: Option<f64>) -> String {
    let mut pairs: Vec<String> = labels
        .iter()
        .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
        .collect();
    match bound {
        Some(bound) if bound.is_finite() => pairs.push(format!("le=\"{bound}\"")),
        Some(_) => pairs.push("le=\"+Inf\"".to_owned()),
        None => {}
    }
    match pairs.is_empty() {
        true => String::new(),
        false => format!("{{{}}}", pairs.join(",")),
    }
}

fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

/// A resource's attribute as the name of a label.
fn label_name(name: &str) -> String {
    let mut label = name.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    if label.starts_with(|c: char| c.is_ascii_digit()) {
        label.insert_str(0, "key_");
    }
    label
}

#[cfg(test)]
mod tests {
    use super::super::Registry;
    use super::*;
    use crate::config::Patterns;

    fn text(naming: &Naming) -> String {
        let registry = Registry::default();
        let labels = [("transport", "grpc"), ("receiver", "otlp")];
        registry
            .counter("otelcol_receiver_accepted_spans", "Spans", &labels)
            .add(5);
        registry.gauge("otelcol_process_uptime", "Up", &[]).set(-1);
        let sizes = registry.histogram("sizes", "Sizes", &[("x", "q\"")], &[10, 100]);
        [5, 10, 11, 1000]
            .iter()
            .for_each(|size| sizes.record(*size));
        let mut families = registry.read();
        let own = [
            "otelcol_receiver_accepted_spans",
            "otelcol_process_uptime",
            "sizes",
        ];
        families.retain(|family| own.contains(&family.name.as_str()));
        families.dedup_by(|a, b| a.name == b.name);
        let resource = [("service.name", "c"), ("zone", "1")];
        let resource = resource.map(|(name, value)| (name.to_owned(), value.to_owned()));
        render(&families, &resource, naming)
    }

    #[test]
    fn units_are_those_of_otelcol() {
        for (name, expected) in [
            ("otelcol_process_uptime", "s"),
            ("otelcol_process_memory_rss", "By"),
            ("otelcol_processor_batch_batch_send_size_bytes", "By"),
            ("otelcol_processor_batch_batch_send_size", "{units}"),
            ("otelcol_receiver_accepted_spans", "{spans}"),
            ("otelcol_exporter_sent_metric_points", "{datapoints}"),
            ("otelcol_exporter_send_failed_log_records", "{records}"),
            ("otelcol_processor_incoming_items", "{items}"),
            ("otelcol_exporter_queue_size", "{batches}"),
            ("otelcol_processor_filter_logs_filtered", "1"),
            ("otelcol_exporter_partial_success_rejected", ""),
        ] {
            assert_eq!(unit(name), expected, "{name}");
        }
    }

    #[test]
    fn names_have_no_suffixes_unless_they_are_asked_for() {
        insta::assert_snapshot!(text(&Naming::default()));
    }

    #[test]
    fn everything_that_a_reader_may_ask_for_is_in_names_and_labels() {
        insta::assert_snapshot!(text(&Naming {
            has_type_suffix: true,
            has_units: true,
            has_scope: true,
            resource_labels: Patterns {
                included: vec!["z*".to_owned()],
                excluded: Vec::new(),
            },
        }));
    }
}
