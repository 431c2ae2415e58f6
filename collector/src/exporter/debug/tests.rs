//! Requests as text, beside what otelcol 0.144.0 has printed for them.

use super::*;

fn shown(verbosity: Verbosity, signal: Signal, json: &str) -> String {
    let request = Request::parse_json(signal, json.as_bytes()).unwrap();
    let debug = Debug {
        config: Config {
            verbosity,
            sampling_initial: 2,
            sampling_thereafter: 1,
            outputs: None,
        },
        id: "debug".to_owned(),
        windows: Mutex::new([(Instant::now(), 0); 3]),
        outputs: None,
    };
    let resources = count(request.bytes(), &[1]);
    let metrics = count(request.bytes(), &[1, 2, 2]);
    let head = head(signal, resources, metrics, request.items());
    format!("{head}\n{}\n", debug.text(&request).unwrap())
}

macro_rules! as_otelcol {
    ($signal:expr, $name:literal) => {
        let json = include_str!(concat!("testdata/", $name, ".json"));
        let normal = include_str!(concat!("testdata/", $name, ".normal.txt"));
        let detailed = include_str!(concat!("testdata/", $name, ".detailed.txt"));
        assert_eq!(shown(Verbosity::Normal, $signal, json), normal);
        assert_eq!(shown(Verbosity::Detailed, $signal, json), detailed);
    };
}

#[test]
fn traces_are_shown_as_otelcol_shows_them() {
    as_otelcol!(Signal::Traces, "traces");
}

#[test]
fn logs_are_shown_as_otelcol_shows_them() {
    as_otelcol!(Signal::Logs, "logs");
}

#[test]
fn metrics_are_shown_as_otelcol_shows_them() {
    as_otelcol!(Signal::Metrics, "metrics");
}

#[test]
fn the_first_batches_of_a_second_are_shown_and_then_one_in_so_many() {
    let config = Config {
        verbosity: Verbosity::Basic,
        sampling_initial: 3,
        sampling_thereafter: 5,
        outputs: None,
    };
    let debug = Debug {
        config,
        id: String::new(),
        windows: Mutex::new([(Instant::now() + Duration::from_secs(60), 0); 3]),
        outputs: None,
    };
    let sampled = |signal| (0..13).filter(|_| debug.is_sampled(signal)).count();
    assert_eq!((sampled(Signal::Traces), sampled(Signal::Logs)), (5, 5));
}
