//! Profiles, as the program that people read them with shows them.
//!
//! In: a collector under load. Out: what `go tool pprof` says. Invariant: it goes on answering.

use std::path::Path;
use std::process::Command;

use bytes::Bytes;

use crate::Test;
use crate::arrival::Signal;
use crate::load::request;
use crate::peer::{self, Peer};
use crate::process::{DEADLINE, Kind, Process, folder, port, write};
use crate::sender::Sender;

pub(crate) const TESTS: &[Test] = &[Test {
    name: "profiles::go_tool_pprof_shows_what_each_thread_worked",
    needs: &[Peer::Pprof],
    run: || crate::run(shown_by_go()),
}];

async fn shown_by_go() {
    let folder = folder();
    let (grpc, pprof) = (port(), port());
    let saved = folder.path().join("whole.pprof");
    let yaml = format!(
        "
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:{grpc}'}}}}}}}}
exporters: {{debug: {{verbosity: basic}}}}
extensions: {{pprof: {{endpoint: '127.0.0.1:{pprof}', save_to_file: '{}'}}}}
service:
  extensions: [pprof]
  telemetry: {{metrics: {{level: none}}}}
  pipelines: {{traces: {{receivers: [otlp], exporters: [debug]}}}}
",
        saved.display()
    );
    let config = write(folder.path(), "config.yaml", &yaml);
    let mut collector = Process::start(Kind::Ours, &config, &[grpc, pprof]).await;
    let load = tokio::spawn(async move {
        let sender = Sender::grpc(grpc);
        loop {
            let answered = sender.export(Signal::Traces, &request(0..500)).await;
            assert!(answered, "it answers while it is looked at");
        }
    });
    let url = format!("http://127.0.0.1:{pprof}/debug/pprof/profile?seconds=1");
    let shown = top(folder.path(), url).await;
    assert!(
        shown.contains("Type: cpu") && shown.contains("Duration: 1"),
        "{shown}"
    );
    assert!(
        shown.contains("user") && shown.contains("tokio-rt-worker"),
        "{shown}"
    );
    load.abort();
    let heap = Sender::http(pprof);
    let heap = heap
        .send("GET", "/debug/pprof/heap", &[], Bytes::new())
        .await
        .unwrap();
    assert_eq!(heap.status, 501);
    assert!(heap.body.starts_with(b"heap: the allocator"));
    collector.signal("TERM");
    collector.wait(DEADLINE).await;
    let shown = top(folder.path(), saved.display().to_string()).await;
    assert!(shown.contains("tokio-rt-worker"), "{shown}");
}

/// What `go tool pprof` says of a profile.
async fn top(folder: &Path, profile: String) -> String {
    let mut command = Command::new(peer::folder().join("pprof"));
    command.args(["-top", &profile]);
    command.env("PPROF_TMPDIR", folder);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = output.await.unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).unwrap();
    assert!(output.status.success(), "{text}");
    println!("{text}");
    text
}
