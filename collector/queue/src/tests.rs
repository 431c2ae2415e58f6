//! The queue on a real disk; `power` and `damage` hold its core against faulty ones.

#![expect(clippy::disallowed_methods, reason = "some tests use a real disk")]

mod damage;
mod memory;
mod power;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::{
    AppendError, Delivery, Disk, OpenError, Opened, Options, Overflow, Queue, Record, Space,
    offline,
};

fn options(folder: &Path, max_bytes: u64) -> Options {
    let space = Space::new(Arc::new(Disk), folder).expect("a file system");
    Options {
        idle: Duration::from_millis(20),
        ..Options::new(max_bytes, Arc::new(space))
    }
}

fn open_with(folder: &Path, options: Options) -> (Queue, Opened) {
    Queue::open(Arc::new(Disk), folder, options).expect("a queue")
}

fn open(folder: &Path) -> (Queue, Opened) {
    open_with(folder, options(folder, 1 << 30))
}

fn record(number: u64, len: usize) -> Record {
    let mut payload = vec![number as u8; len];
    payload[..8].copy_from_slice(&number.to_le_bytes());
    let meta = Bytes::from(format!("meta of {number}"));
    Record {
        meta,
        payload: payload.into(),
        weight: number as u32 % 1000,
    }
}

async fn next(queue: &Queue) -> Delivery {
    let next = tokio::time::timeout(Duration::from_secs(10), queue.next());
    next.await.expect("in time").expect("a record")
}

async fn until(mut holds: impl FnMut() -> bool) {
    for _ in 0..500 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it does not come true");
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut names: Vec<_> = entries
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("a name")
        })
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn hands_out_what_was_appended_in_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let (queue, opened) = open(folder.path());
    assert_eq!(opened, Opened::default());
    for number in 0..100 {
        queue.append(record(number, 1000)).await.expect("room");
    }
    assert_eq!(queue.stats().left.records, 100);
    for number in 0..100 {
        let delivery = next(&queue).await;
        assert_eq!(delivery.record, record(number, 1000));
        queue.ack(delivery.receipt);
    }
    until(|| queue.stats().left.records == 0).await;
    until(|| queue.stats().disk_bytes == 0).await;
    assert_eq!(names(folder.path()), ["dead-letter", "lock", "queue"]);
    queue.close().await;
    assert!(!folder.path().exists(), "an empty queue leaves no trace");
    assert!(queue.next().await.is_none());
    assert!(matches!(
        queue.append(record(0, 8)).await,
        Err(AppendError::Closed)
    ));
}

#[tokio::test]
async fn hands_out_after_a_clean_close_what_was_not_acknowledged_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let (queue, _) = open(folder.path());
    for number in 0..50 {
        queue.append(record(number, 100)).await.expect("room");
    }
    for number in 0..50 {
        let delivery = next(&queue).await;
        if number % 3 != 0 {
            queue.ack(delivery.receipt);
        }
    }
    queue.close().await;
    drop(queue);
    let (queue, opened) = open(folder.path());
    assert_eq!(opened.left.records, 17);
    assert_eq!(opened.losses, []);
    for number in (0..50).step_by(3) {
        assert_eq!(next(&queue).await.record, record(number, 100));
    }
    assert!(
        tokio::time::timeout(Duration::from_millis(50), queue.next())
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_backlog_of_many_segments_comes_back_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let small = || options(folder.path(), 4 << 20);
    let (queue, _) = open_with(folder.path(), small());
    for number in 0..60 {
        queue.append(record(number, 50_000)).await.expect("room");
    }
    drop(queue);
    let (queue, opened) = open_with(folder.path(), small());
    assert!(opened.segments >= 6, "{opened:?}");
    for number in 0..60 {
        let delivery = next(&queue).await;
        assert_eq!(delivery.record, record(number, 50_000));
        queue.ack(delivery.receipt);
    }
    until(|| queue.stats().disk_bytes == 0).await;
}

#[tokio::test]
async fn a_full_queue_refuses_and_takes_again_when_it_drained() {
    let folder = tempfile::tempdir().expect("a folder");
    let (queue, _) = open_with(folder.path(), options(folder.path(), 1 << 20));
    let mut taken = 0;
    let refusal = loop {
        match queue.append(record(taken, 30_000)).await {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
    };
    assert!(
        matches!(refusal, AppendError::Full { .. }) && refusal.may_pass(),
        "{refusal}"
    );
    assert!((25..=34).contains(&taken), "{taken}");
    assert!(queue.stats().disk_bytes <= 1 << 20, "{:?}", queue.stats());
    for number in 0..taken {
        let delivery = next(&queue).await;
        assert_eq!(delivery.record, record(number, 30_000));
        queue.ack(delivery.receipt);
    }
    until(|| queue.stats().left.records == 0).await;
    queue.append(record(0, 30_000)).await.expect("room again");
    let refusal = queue
        .append(record(0, 2 << 20))
        .await
        .expect_err("too large");
    assert!(matches!(refusal, AppendError::TooLarge { .. }) && !refusal.may_pass());
}

#[tokio::test]
async fn drops_the_oldest_where_that_was_asked_for_and_counts_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut options = options(folder.path(), 1 << 20);
    options.overflow = Overflow::DropOldest;
    let (queue, _) = open_with(folder.path(), options);
    for number in 0..100 {
        queue
            .append(record(number, 30_000))
            .await
            .expect("room is made");
    }
    let stats = queue.stats();
    assert!(stats.disk_bytes <= 1 << 20, "{stats:?}");
    let mut seen = 0;
    let mut last = None;
    while let Ok(Some(delivery)) =
        tokio::time::timeout(Duration::from_millis(200), queue.next()).await
    {
        seen += 1;
        last = Some(delivery.record);
        queue.ack(delivery.receipt);
    }
    assert_eq!(last, Some(record(99, 30_000)));
    assert_eq!(seen + queue.stats().dropped.records, 100);
}

#[tokio::test]
async fn one_owner_has_the_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let (queue, _) = open(folder.path());
    let second = Queue::open(
        Arc::new(Disk),
        folder.path(),
        options(folder.path(), 1 << 20),
    );
    assert!(matches!(second, Err(OpenError::Locked(_))));
    queue.close().await;
    let (_queue, _) = open(folder.path());
}

#[tokio::test]
async fn dead_letters_are_kept_and_no_longer_handed_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let (queue, _) = open(folder.path());
    queue.append(record(7, 100)).await.expect("room");
    let delivery = next(&queue).await;
    let set_aside = queue.set_aside(&delivery.record, "refused for good");
    set_aside.await.expect("room");
    queue.ack(delivery.receipt);
    assert_eq!(queue.stats().dead_letters.records, 1);
    queue.close().await;
    drop(queue);
    let (_queue, opened) = open(folder.path());
    assert_eq!(opened.left.records, 0);
    assert_eq!(opened.dead_letters.records, 1);
}

#[tokio::test]
async fn dead_letters_are_listed_inspected_and_put_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().join("storage/otlp");
    std::fs::create_dir_all(&place).expect("a folder");
    let (queue, _) = open(&place);
    for number in 0..5 {
        queue.append(record(number, 100)).await.expect("room");
    }
    for number in 0..3 {
        let delivery = next(&queue).await;
        assert_eq!(delivery.record, record(number, 100));
        let set_aside = queue.set_aside(&delivery.record, "refused for good");
        set_aside.await.expect("room");
        queue.ack(delivery.receipt);
    }
    let files: Arc<dyn crate::Files> = Arc::new(Disk);
    let listed = || offline::list(&Disk, folder.path()).expect("a folder");
    let running = &listed()[0];
    assert_eq!(running.owner, Some(std::process::id().to_string()));
    let refused = offline::replay_dead_letters(&files, &place, &options(&place, 1 << 20));
    assert!(matches!(refused, Err(OpenError::Locked(_))));
    queue.close().await;
    let summary = &listed()[0];
    assert_eq!((summary.owner.as_deref(), listed().len()), (None, 1));
    assert_eq!((summary.left.records, summary.dead_letters.records), (2, 3));

    let mut letters = Vec::new();
    offline::inspect(&Disk, &place, true, |letter| {
        letters.push(letter);
        std::ops::ControlFlow::Continue(())
    })
    .expect("it is read");
    assert_eq!(letters.len(), 3);
    assert_eq!(letters[1].reason.as_deref(), Some("refused for good"));
    assert_eq!(letters[1].record, record(1, 100));

    let replayed = offline::replay_dead_letters(&files, &place, &options(&place, 1 << 20));
    assert_eq!(replayed.expect("it is free").amount.records, 3);
    let summary = &listed()[0];
    assert_eq!((summary.left.records, summary.dead_letters.records), (5, 0));
    let (queue, _) = open(&place);
    for number in [3, 4, 0, 1, 2] {
        assert_eq!(next(&queue).await.record, record(number, 100));
    }
    queue.close().await;
    assert!(offline::purge(&Disk, &place, offline::Purge::All).expect("it is free") > 0);
    assert_eq!(listed()[0].left.records, 0);
    assert!(
        offline::purge(&Disk, folder.path(), offline::Purge::All).is_err(),
        "it is no queue"
    );
}

#[tokio::test]
async fn many_appenders_share_an_fsync() {
    let folder = tempfile::tempdir().expect("a folder");
    let (queue, _) = open(folder.path());
    let queue = Arc::new(queue);
    let appenders: Vec<_> = (0..32)
        .map(|appender| {
            let queue = Arc::clone(&queue);
            tokio::spawn(async move {
                for turn in 0..20 {
                    queue
                        .append(record(appender * 20 + turn, 4000))
                        .await
                        .expect("room");
                }
            })
        })
        .collect();
    for appender in appenders {
        appender.await.expect("no panic");
    }
    let stats = queue.stats();
    assert_eq!(stats.left.records, 640);
    assert!(stats.fsyncs < 320, "{stats:?}");
    let mut seen: Vec<u64> = Vec::new();
    for _ in 0..640 {
        let payload = next(&queue).await.record.payload;
        seen.push(u64::from_le_bytes(
            payload[..8].try_into().expect("8 bytes"),
        ));
    }
    seen.sort_unstable();
    assert!(seen.iter().copied().eq(0..640));
}
