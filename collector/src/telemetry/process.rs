//! Metrics of the process itself, under the names that otelcol gives them.
//!
//! In: what the kernel knows. Out: families. Invariant: what the kernel does not say is left out.
//!
//! There is no Go runtime here, so the metrics that are named after it show what is nearest: the
//! anonymous memory in use for the heap, the private writable memory for what was obtained from
//! the system, and the memory of all page faults for what was allocated over time.

use std::time::Duration;

use super::memory;
use super::metrics::{Family, Kind, Reading};

pub(super) fn families(uptime: Duration) -> Vec<Family> {
    let family = |name: &str, kind, help, value: Option<f64>| Family {
        name: name.to_owned(),
        help,
        kind,
        series: value
            .into_iter()
            .map(|value| (Vec::new(), Reading::Number(value)))
            .collect(),
    };
    let usage = memory::Usage::read();
    let bytes = |bytes: Option<u64>| bytes.map(|bytes| bytes as f64);
    let resident = bytes(usage.resident);
    vec![
        family(
            "otelcol_process_uptime",
            Kind::Counter,
            "Uptime of the process",
            Some(uptime.as_secs_f64()),
        ),
        family(
            "otelcol_process_cpu_seconds",
            Kind::Counter,
            "Total CPU user and system time in seconds",
            memory::cpu_seconds(),
        ),
        family(
            "otelcol_process_memory_rss",
            Kind::Gauge,
            "Total physical memory (resident set size)",
            resident,
        ),
        family(
            "process_resident_memory_bytes",
            Kind::Gauge,
            "Resident memory size in bytes.",
            resident,
        ),
        family(
            "otelcol_process_runtime_heap_alloc_bytes",
            Kind::Gauge,
            "Bytes of anonymous memory in use",
            bytes(usage.anonymous),
        ),
        family(
            "otelcol_process_runtime_total_sys_memory_bytes",
            Kind::Gauge,
            "Total bytes of private writable memory obtained from the OS",
            bytes(usage.private),
        ),
        family(
            "otelcol_process_runtime_total_alloc_bytes",
            Kind::Counter,
            "Cumulative bytes of memory that the OS has given on first use",
            bytes(memory::faulted_bytes()),
        ),
    ]
}
