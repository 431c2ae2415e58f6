//! Senders in memory: what is joined, cut, answered, refused and given up.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use collector_otlp::{Request, Signal};
use collector_queue::{Disk, Files, Options, Queue, Space};
use tokio::sync::Semaphore;
use tokio::time::{Duration, Instant};

use super::*;
use crate::batch::Metadata;
use crate::component::{ComponentId, Context, Exporter, Outputs, Task};

/// An exporter that remembers, in front of a server that can be away, busy or particular.
struct Server {
    taken: Mutex<Vec<Vec<String>>>,
    attempts: AtomicUsize,
    slots: Semaphore,
    down: AtomicUsize,
}

const POISON: &str = "poison";

impl Server {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            taken: Mutex::default(),
            attempts: AtomicUsize::new(0),
            slots: Semaphore::new(Semaphore::MAX_PERMITS),
            down: AtomicUsize::new(0),
        })
    }

    fn busy() -> Arc<Self> {
        Arc::new(Self {
            slots: Semaphore::new(0),
            taken: Mutex::default(),
            attempts: AtomicUsize::new(0),
            down: AtomicUsize::new(0),
        })
    }

    fn batches(&self) -> Vec<Vec<String>> {
        self.taken.lock().unwrap().clone()
    }

    fn names(&self) -> Vec<String> {
        self.batches().concat()
    }
}

impl Exporter for Server {
    fn export(&self, batch: Batch) -> Task<'_, Result<(), Failure>> {
        Box::pin(async move {
            self.slots.acquire().await.unwrap().forget();
            self.attempts.fetch_add(1, Ordering::Relaxed);
            let names = names(&batch.request);
            if names.iter().any(|name| name == POISON) {
                return Err(Failure::permanent("poison"));
            }
            if self.down.load(Ordering::Relaxed) > 0 {
                self.down.fetch_sub(1, Ordering::Relaxed);
                return Err(Failure::retryable("down"));
            }
            self.taken.lock().unwrap().push(names);
            Ok(())
        })
    }

    fn stop(&self) -> Task<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

fn request(names: &[&str]) -> Request {
    let spans: Vec<_> = names
        .iter()
        .map(|name| format!("{{\"name\":\"{name}\"}}"))
        .collect();
    let json = format!(
        "{{\"resourceSpans\":[{{\"scopeSpans\":[{{\"spans\":[{}]}}]}}]}}",
        spans.join(",")
    );
    Request::parse_json(Signal::Traces, json.as_bytes()).unwrap()
}

fn names(request: &Request) -> Vec<String> {
    let json = String::from_utf8(request.to_json().unwrap()).unwrap();
    let rest = json.split("\"name\":\"").skip(1);
    rest.map(|part| part.split('"').next().unwrap().to_owned())
        .collect()
}

fn rule(timeout: Duration, enough: usize, most: usize) -> Arc<Batching> {
    Arc::new(Batching {
        name: "traces".to_owned(),
        timeout,
        enough,
        most,
        measure: Measure::Items,
        metadata_keys: vec!["tenant".to_owned()],
        metadata_cardinality_limit: 2,
        telemetry: BatchingTelemetry::default(),
    })
}

fn sender(server: &Arc<Server>, queue: Option<QueueSettings>) -> Sender {
    sender_on(server, queue, None)
}

fn sender_on(
    server: &Arc<Server>,
    queue: Option<QueueSettings>,
    on_disk: Option<(Queue, Vec<Arc<Batching>>)>,
) -> Sender {
    let retry = Some(RetrySettings {
        initial_interval: Duration::from_millis(100),
        ..RetrySettings::default()
    });
    Sender::start(SenderParts {
        context: Context {
            id: ComponentId::parse("otlp").unwrap(),
            registry: Arc::default(),
            budget: Arc::default(),
            authenticators: crate::authentication::Authenticators::default(),
        },
        exporter: Arc::clone(server) as Arc<dyn Exporter>,
        settings: &SendingSettings { queue, retry },
        signal: Signal::Traces,
        rule: None,
        queue: on_disk,
    })
}

fn in_memory() -> Option<QueueSettings> {
    Some(QueueSettings {
        num_consumers: 1,
        queue_size: 2,
        ..QueueSettings::default()
    })
}

fn batch(names: &[&str], rule: &Arc<Batching>) -> Batch {
    Batch {
        batching: Some(Arc::clone(rule)),
        ..Batch::from(request(names))
    }
}

async fn stop(sender: &Sender) {
    sender.stop(Instant::now() + Duration::from_secs(600)).await;
}

#[tokio::test(start_paused = true)]
async fn requests_leave_by_size_and_by_time() {
    let (server, long) = (Server::new(), rule(Duration::from_secs(5), 3, 0));
    let sender = sender(&server, in_memory());
    for names in [["a", "b"], ["c", "d"], ["e", "f"]] {
        sender.accept(batch(&names, &long)).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(server.batches(), [["a", "b", "c", "d"]]);
    tokio::time::sleep(Duration::from_millis(3900)).await;
    assert_eq!(server.batches().len(), 1);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(server.batches()[1], ["e", "f"]);
    stop(&sender).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_over_the_limit_begins_the_next_batch() {
    let (server, rule) = (Server::new(), rule(Duration::from_secs(5), 3, 3));
    let sender = sender(&server, in_memory());
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    sender.accept(batch(&names[..2], &rule)).await.unwrap();
    sender.accept(batch(&names[2..], &rule)).await.unwrap();
    stop(&sender).await;
    let sizes: Vec<_> = server.batches().iter().map(Vec::len).collect();
    assert_eq!(
        (server.names().as_slice(), sizes),
        (&names.map(str::to_owned)[..], vec![3, 3, 2])
    );
}

#[tokio::test(start_paused = true)]
async fn metadata_keeps_batches_apart_and_within_their_number() {
    let (server, rule) = (Server::new(), rule(Duration::from_secs(5), 100, 0));
    let sender = sender(&server, in_memory());
    let of = |tenant, name| of_tenant(tenant, name, &rule);
    for (tenant, name) in [("1", "a"), ("2", "b"), ("1", "c")] {
        sender.accept(of(tenant, name)).await.unwrap();
    }
    let refused = sender.accept(of("3", "d")).await;
    assert!(matches!(refused, Err(Failure::Retryable { .. })));
    // Another pipeline has combinations of its own.
    let other = self::rule(Duration::from_secs(5), 100, 0);
    sender.accept(of_tenant("3", "e", &other)).await.unwrap();
    stop(&sender).await;
    let mut batches = server.batches();
    batches.sort();
    assert_eq!(batches, [vec!["a", "c"], vec!["b"], vec!["e"]]);
}

fn of_tenant(tenant: &str, name: &str, rule: &Arc<Batching>) -> Batch {
    Batch {
        metadata: Metadata::new(vec![
            ("tenant".into(), tenant.into()),
            ("x".into(), format!("only-{name}")),
        ]),
        ..batch(&[name], rule)
    }
}

#[tokio::test]
async fn what_is_on_disk_leaves_however_many_tenants_it_is_of() {
    let folder = tempfile::tempdir().unwrap();
    let files: Arc<dyn Files> = Arc::new(Disk);
    let space = Arc::new(Space::new(Arc::clone(&files), folder.path()).unwrap());
    let place = folder.path().join("queue");
    let (queue, _) = Queue::open(files, &place, Options::new(1 << 30, space)).unwrap();
    let (server, rule) = (Server::new(), rule(Duration::from_secs(600), 100, 0));
    let on_disk = Some((queue, vec![Arc::clone(&rule)]));
    let sender = sender_on(&server, Some(QueueSettings::default()), on_disk);
    let tenants = ["a", "b", "c", "d", "e"];
    for tenant in tenants {
        let stored = sender.accept(of_tenant(tenant, tenant, &rule)).await;
        stored.unwrap();
    }
    // Two combinations may be open; the others leave long before their time.
    while server.names().len() < tenants.len() - 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    stop(&sender).await;
    let mut names = server.names();
    names.sort();
    assert_eq!(names, tenants);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_and_loses_nothing_that_it_took() {
    let server = Server::busy();
    let sender = sender(&server, in_memory());
    let mut taken = Vec::new();
    for name in ["a", "b", "c", "d", "e"] {
        if sender.accept(request(&[name]).into()).await.is_ok() {
            taken.push(name);
        }
        tokio::task::yield_now().await;
    }
    // One is being sent and two wait.
    assert_eq!(taken, ["a", "b", "c"]);
    server.slots.add_permits(10);
    stop(&sender).await;
    assert_eq!(server.names(), taken);
    let late = sender.accept(request(&["f"]).into()).await;
    assert!(matches!(late, Err(Failure::Retryable { .. })));
}

#[tokio::test(start_paused = true)]
async fn senders_are_slowed_down_to_a_slow_target_but_not_to_one_that_is_away() {
    let large = "x".repeat(5 << 20);
    let settings = || {
        Some(QueueSettings {
            num_consumers: 1,
            ..QueueSettings::default()
        })
    };
    let slow = Server::busy();
    let queue = sender(&slow, settings());
    let started = Instant::now();
    for _ in 0..4 {
        queue.accept(request(&[&large]).into()).await.unwrap();
    }
    // One is being sent, two wait, and the fourth was held up for as long as anyone is.
    assert_eq!(started.elapsed(), Duration::from_secs(1));
    let away = Server::new();
    away.down.store(usize::MAX, Ordering::Relaxed);
    let queue = sender(&away, settings());
    queue.accept(request(&["first"]).into()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    let started = Instant::now();
    for _ in 0..10 {
        queue.accept(request(&[&large]).into()).await.unwrap();
    }
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_blocks_waits_for_room() {
    let server = Server::busy();
    let settings = in_memory().map(|settings| QueueSettings {
        block_on_overflow: true,
        ..settings
    });
    let sender = Arc::new(sender(&server, settings));
    let all: Vec<_> = (0..9)
        .map(|n| {
            let sender = Arc::clone(&sender);
            tokio::spawn(async move { sender.accept(request(&[&n.to_string()]).into()).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(all.iter().filter(|task| task.is_finished()).count(), 3);
    server.slots.add_permits(9);
    for task in all {
        task.await.unwrap().unwrap();
    }
    stop(&sender).await;
    assert_eq!(server.names().len(), 9);
}

#[tokio::test(start_paused = true)]
async fn without_a_queue_the_answer_waits_for_delivery() {
    let (server, rule) = (Server::busy(), rule(Duration::from_secs(600), 1000, 0));
    let sender = Arc::new(sender(&server, None));
    let accept = |name: &'static str| {
        let (sender, batch) = (Arc::clone(&sender), batch(&[name], &rule));
        tokio::spawn(async move { sender.accept(batch).await })
    };
    let first = accept("a");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!first.is_finished());
    server.slots.add_permits(1);
    // Well before the batch's timeout, and without waiting for its size.
    tokio::time::timeout(Duration::from_secs(1), first)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    server.slots.add_permits(10);
    let poisoned = accept(POISON).await.unwrap();
    assert_eq!(poisoned, Err(Failure::permanent("poison")));
    stop(&sender).await;
}

#[tokio::test(start_paused = true)]
async fn poison_stays_with_its_sender() {
    let (server, rule) = (Server::new(), rule(Duration::from_secs(1), 100, 0));
    let settings = in_memory().map(|settings| QueueSettings {
        wait_for_result: true,
        ..settings
    });
    // With the result waited for, a batch forms while the one consumer is busy.
    server.down.store(1, Ordering::Relaxed);
    let sender = Arc::new(sender(&server, settings));
    let accept = |name: &'static str| {
        let (sender, batch) = (Arc::clone(&sender), batch(&[name], &rule));
        tokio::spawn(async move { sender.accept(batch).await })
    };
    let first = accept("first");
    tokio::time::sleep(Duration::from_millis(1)).await;
    let all = [accept("a"), accept(POISON), accept("b")];
    first.await.unwrap().unwrap();
    let mut answers = Vec::new();
    for task in all {
        answers.push(task.await.unwrap());
    }
    assert_eq!(answers, [Ok(()), Err(Failure::permanent("poison")), Ok(())]);
    assert_eq!(server.names(), ["first", "a", "b"]);
    // The first twice, the batch of three, and each of its requests.
    assert_eq!(server.attempts.load(Ordering::Relaxed), 6);
    stop(&sender).await;
}

#[tokio::test(start_paused = true)]
async fn every_branch_gets_the_batch_and_the_worst_answer_counts() {
    let (good, bad) = (Server::new(), Server::new());
    let refusing = Arc::new(sender(
        &Server::busy(),
        Some(QueueSettings {
            num_consumers: 1,
            queue_size: 1,
            ..QueueSettings::default()
        }),
    ));
    while refusing.accept(request(&["x"]).into()).await.is_ok() {
        tokio::task::yield_now().await;
    }
    let output = Output {
        processors: Vec::new(),
        batching: None,
        sinks: vec![
            refusing,
            Arc::new(sender(&good, None)),
            Arc::new(sender(&bad, None)),
        ],
    };
    let answer = output.send(request(&["a"]).into()).await;
    assert!(matches!(answer, Err(Failure::Retryable { .. })));
    let answer = output.send(request(&[POISON]).into()).await;
    assert!(matches!(answer, Err(Failure::Retryable { .. })));
    assert_eq!(
        (good.names(), bad.names()),
        (vec!["a".to_owned()], vec!["a".to_owned()])
    );
}

#[tokio::test(start_paused = true)]
async fn no_pipeline_waits_for_another_one() {
    let (blocked, good) = (Server::busy(), Server::new());
    let pipeline = |server: &Arc<Server>| {
        let output = Output {
            processors: Vec::new(),
            batching: None,
            sinks: vec![Arc::new(sender(server, None))],
        };
        (Signal::Traces, Arc::new(output))
    };
    let outputs = Outputs {
        pipelines: vec![pipeline(&blocked), pipeline(&good)],
    };
    let sending = tokio::spawn(async move { outputs.send(request(&["a"]).into()).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(good.names(), ["a"]);
    assert!(!sending.is_finished());
    blocked.slots.add_permits(1);
    assert_eq!(sending.await.unwrap(), Ok(()));
}
