//! SIGHUP: another configuration takes over, and nobody notices.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use collector::network::{Encoding, Protocol};
use tokio::task::JoinHandle;

use crate::harness::*;

fn flow(grpc: u16, out: &Path, zone: &str) -> String {
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
    let config = write(folder.path(), "config.yaml", &flow(grpc, &out, "first"));
    let mut collector = Collector::start(&config).await;
    let load = Load::start(grpc);
    for zone in ["second", "third"] {
        tokio::time::sleep(Duration::from_millis(200)).await;
        std::fs::write(&config, flow(grpc, &out, zone)).unwrap();
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
    let answered = load.end().await;
    collector.terminate();
    assert_eq!(collector.wait().await, Some(0));
    assert_eq!(span_names(&out), answered);
}

/// Sends to `grpc` through a queue on disk to `target`, or into a file.
fn switch(grpc: u16, target: u16, queue: &Path, out: &Path, to: &str) -> String {
    format!(
        "
extensions: {{file_storage: {{directory: '{}'}}}}
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:{grpc}'}}}}}}}}
processors: {{batch: {{timeout: 50ms}}}}
exporters:
  file: {{path: '{}', append: true, flush_interval: 50ms}}
  otlp:
    endpoint: 127.0.0.1:{target}
    tls: {{insecure: true}}
    retry_on_failure: {{initial_interval: 50ms, max_interval: 100ms}}
    sending_queue: {{storage: file_storage}}
service:
  extensions: [file_storage]
  telemetry: {{metrics: {{level: none}}}}
  pipelines: {{traces: {{receivers: [otlp], processors: [batch], exporters: [{to}]}}}}
",
        queue.display(),
        out.display()
    )
}

#[tokio::test]
async fn a_reload_that_removes_an_exporter_leaves_its_queue_for_when_it_is_back() {
    let folder = folder();
    let (grpc, target) = (port(), port());
    let (queue, out) = (folder.path().join("queue"), folder.path().join("out.jsonl"));
    std::fs::create_dir(&queue).unwrap();
    let yaml = |to| switch(grpc, target, &queue, &out, to);
    let config = write(folder.path(), "config.yaml", &yaml("otlp"));
    let mut collector = Collector::start(&config).await;
    let mut load = Load::start(grpc);
    load.until_answered(20).await;
    let mut reloads = 0;
    let mut reload = async |to| {
        std::fs::write(&config, yaml(to)).unwrap();
        collector.signal("HUP");
        reloads += 1;
        until("the new configuration to run", async || {
            let log = collector.log();
            log.matches("the new configuration is running").count() == reloads
        })
        .await;
    };
    // Nobody listens there: all of it waits on disk, without an exporter, until it has one again.
    reload("file").await;
    load.until_answered(20).await;
    reload("otlp").await;
    let arrived = folder.path().join("arrived.jsonl");
    let next = write(folder.path(), "next.yaml", &flow(target, &arrived, "next"));
    let mut next = Collector::start(&next).await;
    until("the backlog to arrive", async || {
        !span_names(&arrived).is_empty()
    })
    .await;
    // And it is removed while its target takes what it gets.
    load.until_answered(20).await;
    reload("file").await;
    load.until_answered(20).await;
    reload("otlp").await;
    load.until_answered(20).await;
    let answered = load.end().await;
    assert!(
        collector.log().contains("exporter.otlp.traces"),
        "{}",
        collector.log()
    );
    let all = || {
        let mut all = [span_names(&arrived), span_names(&out)].concat();
        all.sort();
        all
    };
    until("everything to arrive", async || {
        all().len() >= answered.len()
    })
    .await;
    for ending in [&mut collector, &mut next] {
        ending.terminate();
        assert_eq!(ending.wait().await, Some(0));
    }
    assert_eq!(all(), answered);
}

/// Senders that go on until they are told to end; none of them is ever refused.
struct Load {
    done: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    senders: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(port: u16) -> Self {
        let (done, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let sender = |sender| {
            let (done, answered) = (Arc::clone(&done), Arc::clone(&answered));
            tokio::spawn(async move {
                let mut names = Vec::new();
                for number in 0.. {
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    // A connection each, so that one that is refused is seen. One that is told
                    // to end before its first call has not refused it: the call goes to another.
                    let name = format!("{sender}-{number}");
                    let message = spans([name.clone()]).bytes().clone();
                    let answer = send(&channel(local(port)), message, Encoding::Identity).await;
                    answer.expect("no request is refused");
                    names.push(name);
                    answered.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                names
            })
        };
        let senders = (0..3).map(sender).collect();
        Self {
            done,
            answered,
            senders,
        }
    }

    /// Waits until so many more were answered.
    async fn until_answered(&mut self, more: usize) {
        let before = self.answered.load(Ordering::Relaxed);
        until("requests to be answered", async || {
            self.answered.load(Ordering::Relaxed) >= before + more
                || self.senders.iter().any(JoinHandle::is_finished)
        })
        .await;
    }

    /// What was answered, sorted.
    async fn end(self) -> Vec<String> {
        self.done.store(true, Ordering::Relaxed);
        let mut names = Vec::new();
        for sender in self.senders {
            names.extend(sender.await.unwrap());
        }
        names.sort();
        names
    }
}

#[tokio::test]
async fn a_configuration_that_cannot_run_changes_nothing() {
    let folder = folder();
    let (grpc, out) = (port(), folder.path().join("out.jsonl"));
    let good = flow(grpc, &out, "first");
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
