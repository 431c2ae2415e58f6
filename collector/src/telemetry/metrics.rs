//! Counters, gauges and histograms.
//!
//! In: names, labels and numbers. Out: a [`Family`] for each name, with everything at one moment.
//! Invariant: asking for the same name and labels twice gives the same metric; names bear neither
//! unit nor `_total`, which [`prometheus`](super::prometheus) adds where it is asked to.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::description::Description;
use super::process;

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
    bounds: Vec<u64>,
    /// How many of the values' units make one of the unit that is shown.
    scale: f64,
    /// One for each bound, and one for what is above all of them.
    buckets: Vec<AtomicU64>,
    sum: AtomicU64,
}

impl Histogram {
    fn with_bounds(bounds: Vec<u64>, scale: f64) -> Self {
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self(Arc::new(HistogramCells {
            bounds,
            scale,
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

    fn read(&self) -> Reading {
        let cells = &self.0;
        let bounds = cells.bounds.iter().map(|bound| *bound as f64 / cells.scale);
        let mut count = 0;
        let mut buckets = Vec::with_capacity(cells.buckets.len());
        for (bound, bucket) in bounds.chain([f64::INFINITY]).zip(&cells.buckets) {
            count += bucket.load(Ordering::Relaxed);
            buckets.push((bound, count));
        }
        Reading::Histogram {
            buckets,
            sum: cells.sum.load(Ordering::Relaxed) as f64 / cells.scale,
        }
    }
}

/// How often times were shorter than each bound; shown in seconds.
#[derive(Clone, Debug)]
pub struct DurationHistogram(Histogram);

impl DurationHistogram {
    /// Counts one time.
    pub fn record(&self, time: Duration) {
        self.0.record(nanoseconds(time));
    }
}

/// Bounds for the time from a request to its answer.
pub const LATENCY_BOUNDS: &[Duration] = &[
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2_500),
    Duration::from_secs(5),
    Duration::from_secs(10),
];

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A number that is asked for when somebody looks.
type Observer = Box<dyn Fn() -> Option<f64> + Send + Sync>;

enum Metric {
    Counter(Counter),
    Gauge(Gauge),
    Histogram(Histogram),
    Observed(Observer),
}

impl Metric {
    fn kind(&self) -> Kind {
        match self {
            Self::Counter(_) => Kind::Counter,
            Self::Gauge(_) | Self::Observed(_) => Kind::Gauge,
            Self::Histogram(_) => Kind::Histogram,
        }
    }

    fn read(&self) -> Option<Reading> {
        match self {
            Self::Counter(counter) => Some(Reading::Number(counter.value() as f64)),
            Self::Gauge(gauge) => Some(Reading::Number(gauge.value() as f64)),
            Self::Histogram(histogram) => Some(histogram.read()),
            Self::Observed(observe) => observe().map(Reading::Number),
        }
    }
}

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// It says how values are distributed.
    Histogram,
}

/// Labels, sorted by name.
pub type Labels = Vec<(String, String)>;

/// Every metric of one name, at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// The name, without unit and without `_total`.
    pub name: String,
    /// What it means.
    pub help: &'static str,
    /// What it is.
    pub kind: Kind,
    /// The metrics.
    pub series: Vec<(Labels, Reading)>,
}

/// A metric at one moment.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading {
    /// Of a counter or a gauge.
    Number(f64),
    /// Of a histogram.
    Histogram {
        /// For each bound, how many values were not above it; the last bound is infinite.
        buckets: Vec<(f64, u64)>,
        /// All values together.
        sum: f64,
    },
}

struct Registered {
    help: &'static str,
    kind: Kind,
    series: BTreeMap<Labels, Metric>,
}

/// Every metric of the process, and what it is made of.
pub struct Registry {
    families: Mutex<BTreeMap<String, Registered>>,
    description: Mutex<Arc<Description>>,
    started: Instant,
    /// The same by the clock, read once: readers of what is sent take another start for a restart.
    started_at: SystemTime,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            families: Mutex::default(),
            description: Mutex::default(),
            started: Instant::now(),
            started_at: SystemTime::now(),
        }
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Registry").finish_non_exhaustive()
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

    /// A gauge that is asked for when somebody looks, such as an age; the last to register a name
    /// and labels is asked, and `None` shows nothing.
    pub fn observe(
        &self,
        name: &str,
        help: &'static str,
        labels: &[(&str, &str)],
        observer: impl Fn() -> Option<f64> + Send + Sync + 'static,
    ) {
        let mut families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        let family = registered(&mut families, name, help, Kind::Gauge);
        let observer = Metric::Observed(Box::new(observer));
        family.series.insert(sorted(labels), observer);
    }

    /// The histogram with this name and these labels.
    pub fn histogram(
        &self,
        name: &str,
        help: &'static str,
        labels: &[(&str, &str)],
        bounds: &'static [u64],
    ) -> Histogram {
        self.scaled(name, help, labels, bounds.to_vec(), 1.0)
    }

    /// The histogram of times with this name and these labels, shown in seconds.
    pub fn durations(
        &self,
        name: &str,
        help: &'static str,
        labels: &[(&str, &str)],
        bounds: &[Duration],
    ) -> DurationHistogram {
        let bounds = bounds.iter().copied().map(nanoseconds).collect();
        DurationHistogram(self.scaled(name, help, labels, bounds, 1e9))
    }

    fn scaled(
        &self,
        name: &str,
        help: &'static str,
        labels: &[(&str, &str)],
        bounds: Vec<u64>,
        scale: f64,
    ) -> Histogram {
        let histogram = Histogram::with_bounds(bounds, scale);
        let make = || Metric::Histogram(histogram.clone());
        let found = self.metric(name, help, labels, make, |metric| match metric {
            Metric::Histogram(histogram) => Some(histogram.clone()),
            _ => None,
        });
        found.unwrap_or(histogram)
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
        let made = make();
        let family = registered(&mut families, name, help, made.kind());
        take(family.series.entry(sorted(labels)).or_insert(made))
    }

    /// Says what this collector is made of.
    pub fn describe(&self, description: Description) {
        let mut held = self
            .description
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *held = Arc::new(description);
    }

    /// What this collector is made of.
    pub fn description(&self) -> Arc<Description> {
        let held = self
            .description
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&held)
    }

    /// How long this collector has been running.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// When this collector has begun to count.
    pub fn started_at(&self) -> SystemTime {
        self.started_at
    }

    /// The sum of all counters whose names begin with `prefix`.
    pub fn total(&self, prefix: &str) -> u64 {
        let families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        let found = families.range(prefix.to_owned()..);
        found
            .take_while(|(name, _)| name.starts_with(prefix))
            .flat_map(|(_, family)| family.series.values())
            .map(|metric| match metric {
                Metric::Counter(counter) => counter.value(),
                _ => 0,
            })
            .sum()
    }

    /// Everything at this moment, sorted by name, with what is known of the process.
    pub fn read(&self) -> Vec<Family> {
        let families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        let mut read: Vec<Family> = families
            .iter()
            .map(|(name, family)| Family {
                name: name.clone(),
                help: family.help,
                kind: family.kind,
                series: family
                    .series
                    .iter()
                    .filter_map(|(labels, metric)| Some((labels.clone(), metric.read()?)))
                    .collect(),
            })
            .collect();
        drop(families);
        read.extend(process::families(self.uptime()));
        read.retain(|family| !family.series.is_empty());
        read.sort_by(|a, b| a.name.cmp(&b.name));
        read
    }
}

fn registered<'f>(
    families: &'f mut BTreeMap<String, Registered>,
    name: &str,
    help: &'static str,
    kind: Kind,
) -> &'f mut Registered {
    families
        .entry(name.to_owned())
        .or_insert_with(|| Registered {
            help,
            kind,
            series: BTreeMap::new(),
        })
}

fn sorted(labels: &[(&str, &str)]) -> Labels {
    let mut labels: Labels = labels
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    labels.sort();
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(registry: &Registry, name: &str) -> Vec<(Labels, Reading)> {
        let families = registry.read();
        let found = families.into_iter().find(|family| family.name == name);
        found.map(|family| family.series).unwrap_or_default()
    }

    #[test]
    fn the_same_name_and_labels_are_the_same_metric() {
        let registry = Registry::default();
        registry.counter("a", "", &[("y", "2"), ("x", "1")]).add(2);
        registry.counter("a", "", &[("x", "1"), ("y", "2")]).add(3);
        let found = series(&registry, "a");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].1, Reading::Number(5.0));
        registry.counter("ab", "", &[]).add(1);
        registry.counter("b", "", &[]).add(1);
        assert_eq!(registry.total("a"), 6);
        // A name has one kind; what asks for another counts for itself.
        registry.gauge("a", "", &[("x", "1"), ("y", "2")]).set(9);
        assert_eq!(series(&registry, "a"), found);
    }

    #[test]
    fn times_are_shown_in_seconds() {
        let registry = Registry::default();
        let bounds = &[Duration::from_millis(1), Duration::from_secs(1)];
        let times = registry.durations("t", "", &[], bounds);
        for millis in [1, 2, 5_000] {
            times.record(Duration::from_millis(millis));
        }
        let expected = Reading::Histogram {
            buckets: vec![(0.001, 1), (1.0, 2), (f64::INFINITY, 3)],
            sum: 5.003,
        };
        assert_eq!(series(&registry, "t"), [(Vec::new(), expected)]);
    }

    #[test]
    fn an_observer_is_asked_when_somebody_looks_and_may_be_replaced() {
        let registry = Registry::default();
        let age = Gauge::default();
        let observed = age.clone();
        registry.observe("age", "", &[], move || {
            Some(observed.value() as f64).filter(|age| *age > 0.0)
        });
        assert_eq!(series(&registry, "age"), []);
        age.set(7);
        assert_eq!(series(&registry, "age")[0].1, Reading::Number(7.0));
        registry.observe("age", "", &[], || Some(0.5));
        assert_eq!(series(&registry, "age")[0].1, Reading::Number(0.5));
    }
}
