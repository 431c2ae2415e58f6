//! Counters, gauges and histograms, and their Prometheus text.
//!
//! In: names, labels and numbers. Out: text of format 0.0.4.
//! Invariant: asking for the same name and labels twice gives the same metric.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::memory;

/// A number that only grows.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// Adds to the number.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// The number.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<AtomicI64>);

impl Gauge {
    /// Adds to the number, or subtracts.
    pub fn add(&self, amount: i64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// Sets the number.
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The number.
    pub fn value(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How often values fell below each bound.
#[derive(Clone, Debug)]
pub struct Histogram(Arc<HistogramCells>);

#[derive(Debug)]
struct HistogramCells {
    bounds: &'static [u64],
    /// One for each bound, and one for what is above all of them.
    buckets: Vec<AtomicU64>,
    sum: AtomicU64,
}

impl Histogram {
    fn with_bounds(bounds: &'static [u64]) -> Self {
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self(Arc::new(HistogramCells {
            bounds,
            buckets,
            sum: AtomicU64::new(0),
        }))
    }

    /// Counts one value.
    pub fn record(&self, value: u64) {
        let cells = &self.0;
        let bucket = cells.bounds.partition_point(|bound| *bound < value);
        cells.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        cells.sum.fetch_add(value, Ordering::Relaxed);
    }
}

#[derive(Debug)]
enum Metric {
    Counter(Counter),
    Gauge(Gauge),
    Histogram(Histogram),
}

#[derive(Debug)]
struct Family {
    help: &'static str,
    series: BTreeMap<String, Metric>,
}

/// Every metric of the process.
#[derive(Debug)]
pub struct Registry {
    families: Mutex<BTreeMap<String, Family>>,
    started: Instant,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            families: Mutex::default(),
            started: Instant::now(),
        }
    }
}

impl Registry {
    /// The counter with this name and these labels.
    pub fn counter(&self, name: &str, help: &'static str, labels: &[(&str, &str)]) -> Counter {
        let make = || Metric::Counter(Counter::default());
        self.metric(name, help, labels, make, |metric| match metric {
            Metric::Counter(counter) => Some(counter.clone()),
            _ => None,
        })
        .unwrap_or_default()
    }

    /// The gauge with this name and these labels.
    pub fn gauge(&self, name: &str, help: &'static str, labels: &[(&str, &str)]) -> Gauge {
        let make = || Metric::Gauge(Gauge::default());
        self.metric(name, help, labels, make, |metric| match metric {
            Metric::Gauge(gauge) => Some(gauge.clone()),
            _ => None,
        })
        .unwrap_or_default()
    }

    /// The histogram with this name and these labels.
    pub fn histogram(
        &self,
        name: &str,
        help: &'static str,
        labels: &[(&str, &str)],
        bounds: &'static [u64],
    ) -> Histogram {
        let make = || Metric::Histogram(Histogram::with_bounds(bounds));
        self.metric(name, help, labels, make, |metric| match metric {
            Metric::Histogram(histogram) => Some(histogram.clone()),
            _ => None,
        })
        .unwrap_or_else(|| Histogram::with_bounds(bounds))
    }

    fn metric<T>(
        &self,
        name: &str,
        help: &'static str,
        labels: &[(&str, &str)],
        make: impl FnOnce() -> Metric,
        take: impl FnOnce(&Metric) -> Option<T>,
    ) -> Option<T> {
        let mut families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        let family = families.entry(name.to_owned()).or_insert_with(|| Family {
            help,
            series: BTreeMap::new(),
        });
        take(
            family
                .series
                .entry(render_labels(labels))
                .or_insert_with(make),
        )
    }

    /// All metrics as Prometheus text.
    pub fn render(&self) -> String {
        let mut out = String::new();
        let families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, family) in &*families {
            render_family(&mut out, name, family);
        }
        drop(families);
        let uptime = self.started.elapsed().as_secs_f64();
        let help = "Uptime of the process, in seconds";
        render_process(&mut out, "otelcol_process_uptime", "counter", help, uptime);
        if let Some(rss) = memory::resident_bytes() {
            let help = "Total physical memory (resident set size)";
            render_process(
                &mut out,
                "otelcol_process_memory_rss",
                "gauge",
                help,
                rss as f64,
            );
        }
        if let Some(seconds) = memory::cpu_seconds() {
            let help = "Total CPU user and system time in seconds";
            render_process(
                &mut out,
                "otelcol_process_cpu_seconds",
                "counter",
                help,
                seconds,
            );
        }
        out
    }
}

fn render_process(out: &mut String, name: &str, kind: &str, help: &str, value: f64) {
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}"
    );
}

fn render_family(out: &mut String, name: &str, family: &Family) {
    let kind = match family.series.values().next() {
        Some(Metric::Counter(_)) => "counter",
        Some(Metric::Gauge(_)) => "gauge",
        Some(Metric::Histogram(_)) => "histogram",
        None => return,
    };
    let _ = writeln!(out, "# HELP {name} {}\n# TYPE {name} {kind}", family.help);
    for (labels, metric) in &family.series {
        let braced = if labels.is_empty() {
            String::new()
        } else {
            format!("{{{labels}}}")
        };
        let _ = match metric {
            Metric::Counter(counter) => writeln!(out, "{name}{braced} {}", counter.value()),
            Metric::Gauge(gauge) => writeln!(out, "{name}{braced} {}", gauge.value()),
            Metric::Histogram(histogram) => {
                render_histogram(out, name, labels, &histogram.0);
                Ok(())
            }
        };
    }
}

fn render_histogram(out: &mut String, name: &str, labels: &str, cells: &HistogramCells) {
    let comma = if labels.is_empty() { "" } else { "," };
    let braced = if labels.is_empty() {
        String::new()
    } else {
        format!("{{{labels}}}")
    };
    let bounds = cells
        .bounds
        .iter()
        .map(u64::to_string)
        .chain(["+Inf".to_owned()]);
    let mut total = 0;
    for (bound, bucket) in bounds.zip(&cells.buckets) {
        total += bucket.load(Ordering::Relaxed);
        let _ = writeln!(
            out,
            "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {total}"
        );
    }
    let sum = cells.sum.load(Ordering::Relaxed);
    let _ = writeln!(
        out,
        "{name}_sum{braced} {sum}\n{name}_count{braced} {total}"
    );
}

fn render_labels(labels: &[(&str, &str)]) -> String {
    let escape = |value: &str| {
        value
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n")
    };
    let pairs: Vec<String> = labels
        .iter()
        .map(|(key, value)| format!("{key}=\"{}\"", escape(value)))
        .collect();
    pairs.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_prometheus_text() {
        let registry = Registry::default();
        registry
            .counter("a", "An a", &[("receiver", "otlp"), ("transport", "grpc")])
            .add(2);
        registry
            .counter("a", "An a", &[("receiver", "otlp"), ("transport", "grpc")])
            .add(3);
        registry.gauge("b", "A b", &[]).set(-1);
        let histogram = registry.histogram("c", "A c", &[("x", "q\"")], &[10, 100]);
        [5, 10, 11, 1000]
            .into_iter()
            .for_each(|value| histogram.record(value));
        let text = registry.render();
        let (own, process) = text.split_once("# HELP otelcol_process_uptime").unwrap();
        assert_eq!(
            own,
            "# HELP a An a\n# TYPE a counter\na{receiver=\"otlp\",transport=\"grpc\"} 5\n\
             # HELP b A b\n# TYPE b gauge\nb -1\n\
             # HELP c A c\n# TYPE c histogram\n\
             c_bucket{x=\"q\\\"\",le=\"10\"} 2\nc_bucket{x=\"q\\\"\",le=\"100\"} 3\n\
             c_bucket{x=\"q\\\"\",le=\"+Inf\"} 4\nc_sum{x=\"q\\\"\"} 1026\nc_count{x=\"q\\\"\"} 4\n"
        );
        assert!(process.contains("otelcol_process_memory_rss "));
    }
}
