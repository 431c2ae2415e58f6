//! What each page says.
//!
//! In: the registry, the rates and the last events. Out: pages.
//! Invariant: a page never waits for a pipeline.

use std::time::SystemTime;

use super::history::{History, total};
use super::html::{self, bar, card, escape, flow, number, sparkline, table};
use crate::telemetry::logs::{Recent, recent};
use crate::telemetry::metrics::{Family, Labels, Reading};
use crate::telemetry::{Description, Registry};

/// How many events the overview shows.
const EVENTS_SHOWN: usize = 8;

/// What the pages are made from.
pub(super) struct View<'v> {
    pub(super) registry: &'v Registry,
    pub(super) history: &'v History,
    pub(super) is_ready: bool,
}

/// The page at a path, if there is one.
pub(super) fn render(path: &str, view: &View<'_>) -> Option<String> {
    let (families, description) = (view.registry.read(), view.registry.description());
    let body = match path {
        "/" => overview(view, &families, &description),
        "/debug/servicez" => service(view, &families, &description),
        "/debug/pipelinez" => {
            let pipelines = pipelines(view, &families, &description);
            let queues = queues(view, &families);
            format!("<h2>Pipelines</h2>{pipelines}<h2>Queues</h2>{queues}")
        }
        "/debug/extensionz" => {
            let names = description.extensions.iter();
            let rows: Vec<_> = names.map(|name| vec![escape(name)]).collect();
            let table = table(&["Extension"], &rows, "There are no extensions.");
            format!("<h2>Extensions</h2>{table}")
        }
        "/debug/tracez" => format!("<h2>Last warnings and errors</h2>{}", events(usize::MAX)),
        _ => return None,
    };
    let attribute = |name: &str| {
        let found = description.resource.iter().find(|(key, _)| key == name);
        found.map_or("", |(_, value)| value.as_str())
    };
    let name = Some(attribute("service.name")).filter(|name| !name.is_empty());
    let head = html::Head {
        path,
        name: name.unwrap_or("collector"),
        version: attribute("service.version"),
        uptime: html::duration(view.registry.uptime().as_secs_f64()),
        is_ready: view.is_ready,
    };
    Some(html::page(&head, &body))
}

fn overview(view: &View<'_>, families: &[Family], description: &Description) -> String {
    let accepted = view.history.rate("otelcol_receiver_accepted_", |_| true);
    let sent = view.history.rate("otelcol_exporter_sent_", |_| true);
    let course = |prefix| sparkline(&view.history.rates(prefix));
    let sum = |prefix| total(families, prefix, &|_: &Labels| true);
    let refused = sum("otelcol_receiver_refused_");
    let given_up = sum("otelcol_exporter_send_failed_");
    let memory = sum("otelcol_process_memory_rss");
    let below = |text: String| format!("<div class=\"soft\">{text}</div>");
    let cpu = view.history.rate("otelcol_process_cpu_seconds", |_| true) * 100.0;
    let cards = [
        card(
            "Accepted",
            &number(accepted),
            "items/s",
            false,
            &course("otelcol_receiver_accepted_"),
        ),
        card(
            "Delivered",
            &number(sent),
            "items/s",
            false,
            &course("otelcol_exporter_sent_"),
        ),
        card(
            "Memory",
            &html::bytes(memory),
            "",
            false,
            &below(format!("{cpu:.0} % of one core")),
        ),
        card(
            "Refused",
            &number(refused),
            "items",
            false,
            &below("senders were told to keep them".to_owned()),
        ),
        card(
            "Given up",
            &number(given_up),
            "items",
            given_up > 0.0,
            &below("could not be delivered".to_owned()),
        ),
    ];
    format!(
        "<div class=\"cards\">{}</div><h2>Pipelines</h2>{}<h2>Queues</h2>{}\
         <h2>Receivers</h2>{}<h2>Last warnings and errors</h2>{}",
        cards.join(""),
        pipelines(view, families, description),
        queues(view, families),
        receivers(view, families),
        events(EVENTS_SHOWN)
    )
}

fn service(view: &View<'_>, families: &[Family], description: &Description) -> String {
    let resource = description.resource.iter();
    let resource: Vec<_> = resource
        .map(|(name, value)| vec![escape(name), escape(value)])
        .collect();
    let of_process = families
        .iter()
        .filter(|family| family.name.starts_with("otelcol_process_"));
    let process: Vec<_> = of_process
        .map(|family| {
            let value = total(std::slice::from_ref(family), "", &|_: &Labels| true);
            let shown = match family.name.as_str() {
                "otelcol_process_uptime" => html::duration(view.registry.uptime().as_secs_f64()),
                "otelcol_process_cpu_seconds" => format!("{value:.2} s"),
                _ => html::bytes(value),
            };
            vec![escape(family.help), shown]
        })
        .collect();
    format!(
        "<h2>Resource</h2>{}<h2>Process</h2>{}",
        table(&["Attribute", "Value"], &resource, "Nothing is known."),
        table(&["", "#Value"], &process, "Nothing is known.")
    )
}

fn pipelines(view: &View<'_>, families: &[Family], description: &Description) -> String {
    let rows: Vec<_> = description
        .pipelines
        .iter()
        .map(|pipeline| {
            let items = match pipeline.name.split('/').next() {
                Some("traces") => "spans",
                Some("metrics") => "metric_points",
                _ => "log_records",
            };
            let fits = |key: &'static str, ids: &[String]| {
                let ids = ids.to_vec();
                move |labels: &Labels| {
                    labels
                        .iter()
                        .any(|(name, value)| name == key && ids.contains(value))
                }
            };
            let given_up = total(
                families,
                &format!("otelcol_exporter_send_failed_{items}"),
                &fits("exporter", &pipeline.exporters),
            );
            let rate = |what: &str, key, ids| {
                let rate = view
                    .history
                    .rate(&format!("{what}_{items}"), fits(key, ids));
                number(rate)
            };
            vec![
                format!("<b>{}</b>", escape(&pipeline.name)),
                flow(
                    &pipeline.receivers,
                    &pipeline.processors,
                    &pipeline.exporters,
                ),
                rate("otelcol_receiver_accepted", "receiver", &pipeline.receivers),
                rate("otelcol_exporter_sent", "exporter", &pipeline.exporters),
                badge(given_up),
            ]
        })
        .collect();
    table(
        &["Pipeline", "Way", "#In /s", "#Out /s", "#Given up"],
        &rows,
        "There are no pipelines.",
    )
}

fn badge(count: f64) -> String {
    match count > 0.0 {
        true => format!("<span class=\"badge bad\">{}</span>", number(count)),
        false => "0".to_owned(),
    }
}

fn label<'l>(labels: &'l Labels, key: &str) -> &'l str {
    let found = labels.iter().find(|(name, _)| name == key);
    found.map_or("", |(_, value)| value.as_str())
}

fn queues(view: &View<'_>, families: &[Family]) -> String {
    let find = |name: &str, labels: &Labels| {
        let family = families.iter().find(|family| family.name == name)?;
        match family.series.iter().find(|(found, _)| found == labels)? {
            (_, Reading::Number(number)) => Some(*number),
            _ => None,
        }
    };
    let sizes = families
        .iter()
        .filter(|family| family.name == "otelcol_exporter_queue_size");
    let rows: Vec<_> = sizes
        .flat_map(|family| &family.series)
        .filter_map(|(labels, size)| {
            let Reading::Number(size) = size else {
                return None;
            };
            let exporter = label(labels, "exporter");
            let capacity = find("otelcol_exporter_queue_capacity", labels).unwrap_or(0.0);
            let dash = || "–".to_owned();
            let bytes = find("otelcol_exporter_queue_bytes", labels);
            let age = find("otelcol_exporter_queue_oldest_age_seconds", labels);
            let sent = view.history.rate("otelcol_exporter_sent_", |found| {
                label(found, "exporter") == exporter
            });
            Some(vec![
                format!("<b>{}</b>", escape(exporter)),
                escape(label(labels, "data_type")),
                bar(*size, capacity),
                bytes.map_or_else(dash, html::bytes),
                age.map_or_else(dash, html::duration),
                number(sent),
            ])
        })
        .collect();
    table(
        &[
            "Exporter", "Signal", "Filled", "#On disk", "#Oldest", "#Out /s",
        ],
        &rows,
        "No exporter has a queue.",
    )
}

fn receivers(view: &View<'_>, families: &[Family]) -> String {
    let accepted = families
        .iter()
        .filter_map(|family| {
            let signal = family.name.strip_prefix("otelcol_receiver_accepted_")?;
            Some(family.series.iter().map(move |series| (signal, series)))
        })
        .flatten();
    let rows: Vec<_> = accepted
        .map(|(signal, (labels, _))| {
            let same = |found: &Labels| found == labels;
            let sum = |what: &str| {
                let name = format!("otelcol_receiver_{what}_{signal}");
                total(families, &name, &same)
            };
            let name = format!("otelcol_receiver_accepted_{signal}");
            vec![
                format!("<b>{}</b>", escape(label(labels, "receiver"))),
                escape(label(labels, "transport")),
                signal.replace('_', " "),
                number(view.history.rate(&name, same)),
                number(sum("accepted")),
                number(sum("refused")),
            ]
        })
        .collect();
    table(
        &[
            "Receiver",
            "Transport",
            "Items",
            "#Accepted /s",
            "#Accepted",
            "#Refused",
        ],
        &rows,
        "There are no receivers.",
    )
}

fn events(most: usize) -> String {
    let rows: Vec<_> = recent().iter().take(most).map(event).collect();
    table(
        &["Time", "", "What", "#Times"],
        &rows,
        "Nothing to worry about since the start.",
    )
}

fn event(event: &Recent) -> Vec<String> {
    let (kind, level) = match event.level {
        tracing::Level::ERROR => ("bad", "error"),
        _ => ("warn", "warning"),
    };
    let seconds = SystemTime::now().duration_since(event.time);
    let ago = html::duration(seconds.unwrap_or_default().as_secs_f64());
    vec![
        format!("{ago} ago"),
        format!("<span class=\"badge {kind}\">{level}</span>"),
        format!(
            "{}<div class=\"details\">{}</div>",
            escape(&event.message),
            escape(&event.details)
        ),
        number(event.count as f64),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::description::PipelineDescription;

    #[test]
    fn what_comes_from_outside_is_escaped_and_everything_is_named() {
        let registry = Registry::default();
        let name = |text: &str| vec![text.to_owned()];
        registry.describe(Description {
            resource: vec![("service.name".to_owned(), "<edge>".to_owned())],
            pipelines: vec![PipelineDescription {
                name: "traces/a".to_owned(),
                receivers: name("otlp"),
                processors: name("batch"),
                exporters: name("otlp/<b>"),
            }],
            extensions: name("zpages"),
        });
        let labels = [("exporter", "otlp/<b>"), ("data_type", "traces")];
        registry
            .gauge("otelcol_exporter_queue_size", "", &labels)
            .set(9);
        registry
            .gauge("otelcol_exporter_queue_capacity", "", &labels)
            .set(10);
        let age = "otelcol_exporter_queue_oldest_age_seconds";
        registry.observe(age, "", &labels, || Some(125.0));
        let failed = "otelcol_exporter_send_failed_spans";
        registry.counter(failed, "", &labels[..1]).add(1234);
        let view = View {
            registry: &registry,
            history: &History::default(),
            is_ready: false,
        };
        let page = render("/", &view).unwrap();
        for part in [
            "<h1>&lt;edge&gt;</h1>",
            "not ready",
            "traces/a",
            "otlp/&lt;b&gt;",
            "bar high",
            "9 of 10",
            "2 min 5 s",
            "<span class=\"badge bad\">1,234</span>",
        ] {
            assert!(page.contains(part), "{part} is not in {page}");
        }
        assert!(!page.contains("<b>otlp/<b>") && !page.contains("<edge>"));
        for (path, title) in html::PAGES {
            let page = render(path, &view).unwrap();
            assert!(page.contains(&format!(": {title}</title>")), "{path}");
        }
        assert!(render("/debug/else", &view).is_none());
    }
}
