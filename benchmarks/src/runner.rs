//! Runs rows: every subject at saturation, then all of them at the same offered rates.
//!
//! In: rows, programs and a duration. Out: cells of [`Results`].
//! Invariant: each measurement has a process of its own, pinned to its core, from which nothing
//! but the row's load has been asked.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::load::{self, Outcome, Pace, Plan, Prepared};
use crate::result::{Cell, Idle, Measurement, Ran, Results};
use crate::row::{ROWS, Row, Work};
use crate::sink::{Sink, Totals};
use crate::subject::{CannotRun, Name, Programs};
use crate::wire::Protocol;

/// How long a subject is loaded before latencies count.
const WARM_UP: Duration = Duration::from_millis(500);

/// Different requests in a row's load.
const REQUESTS: usize = 16;

/// Shares of the slowest subject's saturation that are offered to all.
const HALF: f64 = 0.5;
const NINETY: f64 = 0.9;

/// After how long without anything coming out there is nothing left to come.
const STALLED: Duration = Duration::from_secs(2);

/// How long a connection may settle before memory is read.
const SETTLE: Duration = Duration::from_secs(1);

/// What to run, and how.
pub struct Suite {
    /// The programs.
    pub programs: Programs,
    /// The subjects to run.
    pub subjects: Vec<Name>,
    /// How long each measurement takes.
    pub duration: Duration,
    /// Only saturation, not the offered rates.
    pub quick: bool,
    /// Idle connections to open.
    pub idle_connections: usize,
}

/// Runs one row with every subject.
pub async fn run_row(
    suite: &Suite,
    row: &Row,
    tell: &mut dyn FnMut(String),
) -> anyhow::Result<BTreeMap<Name, Cell>> {
    let sink = Sink::start().await?;
    let requests = load::prepare(
        row.signal,
        row.protocol,
        row.encoding,
        row.content(),
        REQUESTS,
    )?;
    let bench = Bench {
        suite,
        row,
        sink,
        requests: Rc::new(requests),
    };
    let mut cells = BTreeMap::new();
    for &name in &suite.subjects {
        let cell = match bench.measure(name, Pace::Saturation).await? {
            Ok(saturation) => {
                tell(describe(row, name, &saturation));
                Cell::Ran(Box::new(Ran {
                    saturation,
                    own_half: None,
                    half: None,
                    ninety: None,
                }))
            }
            Err(CannotRun(why)) => {
                tell(format!(
                    "{:<18} {:<10} cannot run: {why}",
                    row.name,
                    name.title()
                ));
                Cell::CannotRun(why)
            }
        };
        cells.insert(name, cell);
    }
    if !suite.quick {
        bench.offer_to_all(&mut cells, tell).await?;
    }
    Ok(cells)
}

struct Bench<'s> {
    suite: &'s Suite,
    row: &'s Row,
    sink: Sink,
    requests: Rc<Vec<Prepared>>,
}

impl Bench<'_> {
    async fn offer_to_all(
        &self,
        cells: &mut BTreeMap<Name, Cell>,
        tell: &mut dyn FnMut(String),
    ) -> anyhow::Result<()> {
        let rates = cells.values().filter_map(|cell| match cell {
            Cell::Ran(ran) => Some(ran.saturation.items_per_second),
            Cell::CannotRun(_) => None,
        });
        let slowest = rates.fold(f64::INFINITY, f64::min);
        for (&name, cell) in cells {
            let Cell::Ran(ran) = cell else { continue };
            let own = ran.saturation.items_per_second;
            for (rate, place) in [
                (own * HALF, &mut ran.own_half),
                (slowest * HALF, &mut ran.half),
                (slowest * NINETY, &mut ran.ninety),
            ] {
                let pace = Pace::Offered(rate / self.items_per_request());
                if let Ok(measured) = self.measure(name, pace).await? {
                    tell(describe(self.row, name, &measured));
                    *place = Some(measured);
                }
            }
        }
        Ok(())
    }

    fn items_per_request(&self) -> f64 {
        let items: u64 = self.requests.iter().map(|request| request.items).sum();
        items as f64 / self.requests.len() as f64
    }

    /// Waits until this many items have come out, as long as they come.
    async fn drain(&self, items: u64) {
        let mut seen = self.sink.totals().items;
        while seen < items {
            sleep(STALLED).await;
            let now = self.sink.totals().items;
            if now == seen {
                return;
            }
            seen = now;
        }
    }

    async fn measure(
        &self,
        name: Name,
        pace: Pace,
    ) -> anyhow::Result<Result<Measurement, CannotRun>> {
        let (row, programs) = (self.row, &self.suite.programs);
        let target = match row.protocol {
            Protocol::Grpc => self.sink.grpc,
            Protocol::Http => self.sink.http,
        };
        let at_start = self.sink.totals();
        let running = match programs.start(name, row, target)? {
            Ok(running) => running,
            Err(why) => return Ok(Err(why)),
        };
        let plan = Plan {
            target: running.address,
            protocol: row.protocol,
            encoding: row.encoding,
            signal: row.signal,
            requests: Rc::clone(&self.requests),
            connections: row.connections(),
            in_flight: row.in_flight(),
        };
        let idle_cpu = running.cpu()?;
        let begun = Instant::now();
        let warm_up = load::run(&plan, pace, WARM_UP).await?;
        let outcome = load::run(&plan, pace, self.suite.duration).await?;
        let loaded = begun.elapsed();
        if row.work == Work::Durable {
            // What is on the disk stays there on SIGTERM, and has to be sent on before it.
            let accepted = warm_up.accepted_items + outcome.accepted_items;
            self.drain(at_start.items + accepted).await;
        }
        let peak_kib = running.memory_kib("VmHWM")?;
        let cpu = running.finish().await? - idle_cpu;
        let mut measured = Measurement {
            peak_kib,
            offered_items_per_second: match pace {
                Pace::Saturation => None,
                Pace::Offered(rate) => Some(rate * self.items_per_request()),
            },
            ..Measurement::default()
        };
        let at_end = self.sink.totals();
        measured.fill(&warm_up, &outcome, at_start, at_end, cpu);
        // A subject that takes more than it sends on is done when the last of it has come out.
        let drained = at_end.last.map_or(loaded, |last| last - begun).max(loaded);
        measured.items_per_second = measured.delivered_items as f64 / drained.as_secs_f64();
        let bytes = measured.accepted_bytes as f64;
        measured.accepted_bytes_per_second = bytes / loaded.as_secs_f64();
        Ok(Ok(measured))
    }
}

impl Measurement {
    fn fill(
        &mut self,
        warm_up: &Outcome,
        outcome: &Outcome,
        at_start: Totals,
        at_end: Totals,
        cpu: Duration,
    ) {
        self.accepted_items = warm_up.accepted_items + outcome.accepted_items;
        self.accepted_bytes = warm_up.accepted_bytes + outcome.accepted_bytes;
        self.accepted_requests = warm_up.accepted_requests + outcome.accepted_requests;
        self.refused = warm_up.refused + outcome.refused;
        self.failed = warm_up.failed + outcome.failed;
        self.delivered_items = at_end.items - at_start.items;
        self.sent_requests = at_end.requests - at_start.requests;
        self.sent_bytes = at_end.bytes - at_start.bytes;
        self.cpu_seconds_per_million = cpu.as_secs_f64() / self.delivered_items as f64 * 1e6;
        let mut latencies = outcome.latencies.clone();
        latencies.sort_unstable();
        self.p50_ms = quantile(&latencies, 0.5);
        self.p99_ms = quantile(&latencies, 0.99);
    }
}

/// In milliseconds; `sorted` is.
fn quantile(sorted: &[Duration], share: f64) -> f64 {
    let index = (sorted.len() as f64 * share) as usize;
    let found = sorted.get(index).or(sorted.last());
    found.map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
}

fn describe(row: &Row, name: Name, measured: &Measurement) -> String {
    let pace = match measured.offered_items_per_second {
        None => "at saturation".to_owned(),
        Some(rate) => format!("at {:.0} K/s", rate / 1e3),
    };
    let lost = measured.accepted_items as i64 - measured.delivered_items as i64;
    format!(
        "{:<18} {:<10} {pace:<14} {:>6.3} CPU-s/M  {:>7.0} K/s  {:>6.1} MiB  p50 {:>7.2} ms  \
         p99 {:>7.2} ms  out {:>5} requests {:>7.1} MB  lost {lost} refused {} failed {}",
        row.name,
        name.title(),
        measured.cpu_seconds_per_million,
        measured.items_per_second / 1e3,
        measured.peak_kib as f64 / 1024.0,
        measured.p50_ms,
        measured.p99_ms,
        measured.sent_requests,
        measured.sent_bytes as f64 / 1e6,
        measured.refused,
        measured.failed,
    )
}

/// Measures what a connection costs over which nothing is sent.
pub async fn run_idle(suite: &Suite, results: &mut Results) -> anyhow::Result<()> {
    let row = &ROWS[0];
    let sink = Sink::start().await?;
    for &name in &suite.subjects {
        let Ok(running) = suite.programs.start(name, row, sink.grpc)? else {
            continue;
        };
        sleep(SETTLE).await;
        let before_kib = running.memory_kib("VmRSS")?;
        let mut open = Vec::new();
        for _ in 0..suite.idle_connections {
            let stream = TcpStream::connect(running.address).await?;
            let (sender, connection) = h2::client::handshake(stream).await?;
            let task = tokio::task::spawn_local(connection);
            // Ready means that the settings of both sides have been exchanged.
            open.push((sender.ready().await?, task));
        }
        sleep(SETTLE).await;
        let idle = Idle {
            connections: open.len(),
            before_kib,
            after_kib: running.memory_kib("VmRSS")?,
        };
        results.idle.insert(name, idle);
        for (_, task) in open {
            task.abort();
        }
    }
    Ok(())
}
