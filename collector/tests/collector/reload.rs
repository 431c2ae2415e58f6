//! SIGHUP: another configuration takes over, and nobody notices.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use collector::network::{Encoding, Protocol};

use crate::harness::*;

fn yaml(grpc: u16, out: &Path, zone: &str) -> String {
    format!(
        "
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:{grpc}'}}}}}}}}
processors: {{resource: {{attributes: [{{key: zone, value: {zone}}}]}}}}
exporters: {{file: {{path: '{}', append: true, flush_interval: 50ms}}}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines: {{traces: {{receivers: [otlp], processors: [resource], exporters: [file]}}}}
",
        out.display()
    )
}

#[tokio::test]
async fn a_reload_under_load_refuses_nobody_and_loses_nothing() {
    let folder = folder();
    let (grpc, out) = (port(), folder.path().join("out.jsonl"));
    let config = write(folder.path(), "config.yaml", &yaml(grpc, &out, "first"));
    let mut collector = Collector::start(&config).await;
    let done = Arc::new(AtomicBool::new(false));
    let senders: Vec<_> = (0..3)
        .map(|sender| {
            let done = Arc::clone(&done);
            tokio::spawn(async move {
                let mut answered = Vec::new();
                for number in 0.. {
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    // A connection each, so that one that is refused is seen.
                    let name = format!("{sender}-{number}");
                    let batch = spans([name.clone()]);
                    let over_grpc = client(Protocol::Grpc);
                    let answer = call(&over_grpc, grpc, &batch, Encoding::Identity).await;
                    answer.expect("no request is refused");
                    answered.push(name);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                answered
            })
        })
        .collect();
    for zone in ["second", "third"] {
        tokio::time::sleep(Duration::from_millis(200)).await;
        std::fs::write(&config, yaml(grpc, &out, zone)).unwrap();
        collector.signal("HUP");
        until("the new configuration to run", async || {
            std::fs::read_to_string(&out)
                .unwrap_or_default()
                .contains(zone)
        })
        .await;
    }
    let running = collector
        .log()
        .matches("the new configuration is running")
        .count();
    assert_eq!(running, 2, "{}", collector.log());
    done.store(true, Ordering::Relaxed);
    let mut answered = Vec::new();
    for sender in senders {
        answered.extend(sender.await.unwrap());
    }
    collector.terminate();
    assert_eq!(collector.wait().await, Some(0));
    answered.sort();
    assert_eq!(span_names(&out), answered);
}

#[tokio::test]
async fn a_configuration_that_cannot_run_changes_nothing() {
    let folder = folder();
    let (grpc, out) = (port(), folder.path().join("out.jsonl"));
    let good = yaml(grpc, &out, "first");
    let config = write(folder.path(), "config.yaml", &good);
    let mut collector = Collector::start(&config).await;
    let absent = good.replace(out.to_str().unwrap(), "/nonexistent/out.jsonl");
    let typo = good.replace("flush_interval", "flush_intreval");
    let faults = [
        (
            typo,
            "unknown key \"flush_intreval\"",
            "the one that runs stays",
        ),
        (
            absent,
            "cannot write /nonexistent/out.jsonl",
            "the old one goes on",
        ),
    ];
    for (number, (fault, why, end)) in faults.into_iter().enumerate() {
        std::fs::write(&config, fault).unwrap();
        collector.signal("HUP");
        until("the fault to be named", async || {
            collector.log().contains(why) && collector.log().contains(end)
        })
        .await;
        let batch = spans([format!("after-{number}")]);
        let over_grpc = client(Protocol::Grpc);
        call(&over_grpc, grpc, &batch, Encoding::Identity)
            .await
            .unwrap();
    }
    collector.terminate();
    assert_eq!(collector.wait().await, Some(0));
    assert_eq!(span_names(&out), ["after-0", "after-1"]);
}
