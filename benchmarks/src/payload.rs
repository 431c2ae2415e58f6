//! Requests that are encoded before anything is measured.
//!
//! In: a signal, a number of items and what they hold. Out: the bytes of one export request.
//! Invariant: the same seed gives the same bytes, and items look like what SDKs send: several
//! resources, text that is not ASCII, attributes of several kinds, about 235 bytes a span.

use collector_otlp::Signal;
use collector_otlp::wire::{write_bytes, write_tag, write_varint_field};
use fastrand::Rng;

/// What items hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// What an SDK sends.
    Realistic,
    /// The same, and random bytes that no compression makes smaller.
    Incompressible,
}

/// How many resources one request holds, at most.
const RESOURCES: usize = 8;

/// How many points one metric holds, at most.
const POINTS_PER_METRIC: usize = 10;

const START_NANOSECONDS: u64 = 1_767_225_600_000_000_000;

const SERVICES: [&str; 8] = [
    "checkout",
    "корзина",
    "payment",
    "在庫",
    "frontend",
    "søk",
    "shipping",
    "recommendation",
];
const ROUTES: [&str; 6] = [
    "/api/v1/orders/{id}",
    "/api/v1/carts/{cart}/items",
    "/produkte/größe/{id}",
    "/api/v1/users/{user}/адреса",
    "/search",
    "/商品/{id}/reviews",
];
const METHODS: [&str; 4] = ["GET", "POST", "PUT", "DELETE"];
const MESSAGES: [&str; 4] = [
    "order accepted and handed to the warehouse, delivery expected within two days",
    "не удалось подтвердить оплату: повторная попытка через 30 секунд",
    "cache miss for the product list, fetched from the database in 12 ms",
    "upstream answered 503 Service Unavailable – attempt 2 of 5 follows",
];
const METRICS: [&str; 4] = [
    "http.server.request.duration",
    "process.runtime.memory.usage",
    "db.client.connections.count",
    "queue.depth",
];

/// One export request with this many items.
pub fn request(signal: Signal, items: usize, content: Content, seed: u64) -> Vec<u8> {
    let mut writer = Writer {
        rng: Rng::with_seed(seed),
        content,
    };
    let resources = RESOURCES.min(items.max(1));
    let mut out = Vec::with_capacity(items * 260);
    for index in 0..resources {
        let share = items / resources + usize::from(index < items % resources);
        let group = writer.resource_group(signal, index, share);
        write_bytes(&mut out, 1, &group);
    }
    out
}

struct Writer {
    rng: Rng,
    content: Content,
}

impl Writer {
    fn resource_group(&mut self, signal: Signal, index: usize, items: usize) -> Vec<u8> {
        let mut resource = Vec::new();
        let service = SERVICES[index % SERVICES.len()];
        text(&mut resource, 1, "service.name", service);
        text(&mut resource, 1, "service.version", "2.14.3");
        let instance = format!("{:016x}", self.rng.u64(..));
        text(&mut resource, 1, "service.instance.id", &instance);
        text(&mut resource, 1, "deployment.environment", "staging");
        let pod = format!("{service}-{:08x}", self.rng.u32(..));
        text(&mut resource, 1, "k8s.pod.name", &pod);
        text(&mut resource, 1, "telemetry.sdk.language", "java");
        integer(&mut resource, 1, "process.pid", self.rng.u64(1..65_536));

        let mut scope = Vec::new();
        write_bytes(&mut scope, 1, b"io.opentelemetry.servlet");
        write_bytes(&mut scope, 2, b"2.10.0");
        let mut scope_group = Vec::with_capacity(items * 260);
        write_bytes(&mut scope_group, 1, &scope);
        match signal {
            Signal::Metrics => self.metrics(&mut scope_group, items),
            Signal::Traces => {
                for _ in 0..items {
                    let span = self.span();
                    write_bytes(&mut scope_group, 2, &span);
                }
            }
            Signal::Logs => {
                for _ in 0..items {
                    let record = self.log_record();
                    write_bytes(&mut scope_group, 2, &record);
                }
            }
        }
        let mut group = Vec::with_capacity(scope_group.len() + resource.len() + 16);
        write_bytes(&mut group, 1, &resource);
        write_bytes(&mut group, 2, &scope_group);
        group
    }

    fn span(&mut self) -> Vec<u8> {
        let mut span = Vec::with_capacity(256);
        let start = START_NANOSECONDS + self.rng.u64(..1 << 40);
        let route = self.choose(&ROUTES);
        write_bytes(&mut span, 1, &self.rng.u128(..).to_le_bytes());
        write_bytes(&mut span, 2, &self.rng.u64(1..).to_le_bytes());
        write_bytes(&mut span, 4, &self.rng.u64(1..).to_le_bytes());
        write_bytes(&mut span, 5, route.as_bytes());
        write_varint_field(&mut span, 6, self.rng.u64(1..=5));
        fixed(&mut span, 7, start);
        fixed(&mut span, 8, start + self.rng.u64(..1 << 28));
        text(&mut span, 9, "http.method", self.choose(&METHODS));
        integer(&mut span, 9, "http.status", 200 + self.rng.u64(..4) * 100);
        text(&mut span, 9, "user_agent.original", "okhttp/4.12.0");
        self.personal(&mut span, 9);
        let mut status = Vec::new();
        write_varint_field(&mut status, 3, 1);
        write_bytes(&mut span, 15, &status);
        span
    }

    fn log_record(&mut self) -> Vec<u8> {
        let mut record = Vec::with_capacity(256);
        fixed(&mut record, 1, START_NANOSECONDS + self.rng.u64(..1 << 40));
        write_varint_field(&mut record, 2, 9 + self.rng.u64(..3) * 4);
        write_bytes(&mut record, 3, b"INFO");
        let mut body = Vec::new();
        write_bytes(&mut body, 1, self.choose(&MESSAGES).as_bytes());
        write_bytes(&mut record, 5, &body);
        text(&mut record, 6, "http.method", self.choose(&METHODS));
        self.personal(&mut record, 6);
        write_bytes(&mut record, 9, &self.rng.u128(..).to_le_bytes());
        write_bytes(&mut record, 10, &self.rng.u64(1..).to_le_bytes());
        record
    }

    fn metrics(&mut self, scope_group: &mut Vec<u8>, points: usize) {
        let mut left = points;
        while left > 0 {
            let count = left.min(POINTS_PER_METRIC);
            left -= count;
            let kind = self.rng.usize(..3);
            let mut data = Vec::with_capacity(count * 200);
            for _ in 0..count {
                let point = self.point(kind);
                write_bytes(&mut data, 1, &point);
            }
            let (number, cumulative) = [(5, false), (7, true), (9, true)][kind];
            if cumulative {
                write_varint_field(&mut data, 2, 2);
            }
            let mut metric = Vec::with_capacity(data.len() + 64);
            write_bytes(&mut metric, 1, self.choose(&METRICS).as_bytes());
            write_bytes(&mut metric, 2, "what it says – в среднем".as_bytes());
            write_bytes(&mut metric, 3, b"ms");
            write_bytes(&mut metric, number, &data);
            write_bytes(scope_group, 2, &metric);
        }
    }

    /// A point of a gauge (0), a sum (1) or a histogram (2).
    fn point(&mut self, kind: usize) -> Vec<u8> {
        let mut point = Vec::with_capacity(256);
        let attributes = if kind == 2 { 9 } else { 7 };
        fixed(&mut point, 2, START_NANOSECONDS);
        fixed(&mut point, 3, START_NANOSECONDS + self.rng.u64(..1 << 40));
        if kind == 2 {
            let buckets: Vec<u64> = (0..6).map(|_| self.rng.u64(..1000)).collect();
            fixed(&mut point, 4, buckets.iter().sum());
            fixed(&mut point, 5, (self.rng.f64() * 1e4).to_bits());
            let packed = |numbers: &[u64]| -> Vec<u8> {
                numbers.iter().flat_map(|n| n.to_le_bytes()).collect()
            };
            write_bytes(&mut point, 6, &packed(&buckets));
            let bounds = [5f64, 10.0, 25.0, 100.0, 1000.0].map(f64::to_bits);
            write_bytes(&mut point, 7, &packed(&bounds));
        } else {
            fixed(&mut point, 4, (self.rng.f64() * 1e4).to_bits());
        }
        text(&mut point, attributes, "http.method", self.choose(&METHODS));
        self.personal(&mut point, attributes);
        point
    }

    /// What the edited rows delete, hash and replace, and what fills the disk.
    fn personal(&mut self, item: &mut Vec<u8>, number: u32) {
        let user = format!("user-{:06}", self.rng.u32(..1_000_000));
        text(item, number, "enduser.id", &user);
        text(item, number, "peer.zone", "eu-west-1b");
        if self.content == Content::Incompressible {
            let random: Vec<u8> = (0..192).map(|_| self.rng.u8(..)).collect();
            let mut value = Vec::new();
            write_bytes(&mut value, 7, &random);
            key_value(item, number, "payload", &value);
        }
    }

    fn choose(&mut self, from: &[&'static str]) -> &'static str {
        from[self.rng.usize(..from.len())]
    }
}

fn fixed(out: &mut Vec<u8>, number: u32, value: u64) {
    write_tag(out, number, 1);
    out.extend_from_slice(&value.to_le_bytes());
}

fn text(out: &mut Vec<u8>, number: u32, key: &str, value: &str) {
    let mut any = Vec::with_capacity(value.len() + 2);
    write_bytes(&mut any, 1, value.as_bytes());
    key_value(out, number, key, &any);
}

fn integer(out: &mut Vec<u8>, number: u32, key: &str, value: u64) {
    let mut any = Vec::with_capacity(12);
    write_varint_field(&mut any, 3, value);
    key_value(out, number, key, &any);
}

fn key_value(out: &mut Vec<u8>, number: u32, key: &str, any: &[u8]) {
    let mut pair = Vec::with_capacity(key.len() + any.len() + 4);
    write_bytes(&mut pair, 1, key.as_bytes());
    write_bytes(&mut pair, 2, any);
    write_bytes(out, number, &pair);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_the_size_that_figures_are_compared_at() {
        let request = request(Signal::Traces, 1000, Content::Realistic, 1);
        let bytes = request.len() / 1000;
        assert!((225..=245).contains(&bytes), "{bytes} bytes a span");
    }
}
