//! A collector from its start to its end, with what signals do between.
//!
//! In: a configuration, and a way to read it again. Out: the end, by SIGTERM or SIGINT.
//! Invariant: after SIGHUP a collector runs, with the new configuration or else with the old one;
//! no connection is refused meanwhile, and what was acknowledged is delivered.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

use crate::component::StartError;
use crate::config::yaml::Node;
use crate::config::{self, Config, Reading};
use crate::network::handover;
use crate::pipeline::{self, Running};
use crate::telemetry::{Registry, logs, notify};

/// How long the end waits for queues of earlier configurations.
const DRAINING_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a collector ended early.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A component could not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Signals could not be listened for.
    #[error("signals cannot be handled: {0}")]
    Signals(#[from] io::Error),
}

/// A collector, and what is needed to go back to it.
struct Current {
    running: Running,
    tree: Node,
    registry: Arc<Registry>,
    /// Queues of earlier configurations that are still being drained.
    draining: Vec<JoinHandle<()>>,
}

/// Runs until a signal ends it; `read` reads the configuration again.
pub async fn run(config: Config, tree: Node, read: &dyn Fn() -> Reading) -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    handover::begin();
    let registry = Arc::<Registry>::default();
    let mut current = Current {
        running: pipeline::start(config, Arc::clone(&registry)).await?,
        tree,
        registry,
        draining: Vec::new(),
    };
    let watchdog = notify::watchdog();
    notify::ready();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        "ready: everything is running"
    );
    loop {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
            _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
            _ = hangup.recv() => {
                notify::reloading();
                current = current.reload(read()).await?;
                notify::ready();
                continue;
            }
        }
        break;
    }
    notify::stopping();
    current.stop().await;
    if let Some(watchdog) = watchdog {
        watchdog.abort();
    }
    tracing::info!("stopped");
    Ok(())
}

impl Current {
    /// Lets a new configuration take over, if it has no error and can start.
    async fn reload(self, reading: Reading) -> Result<Self, Failure> {
        let said = reading.render();
        let (Some(config), Some(tree)) = (reading.config, reading.tree) else {
            said.lines().for_each(|line| tracing::error!("{line}"));
            tracing::error!("SIGHUP: the configuration has errors; the one that runs stays");
            return Ok(self);
        };
        said.lines().for_each(|line| tracing::warn!("{line}"));
        let Self {
            running,
            tree: old,
            registry,
            mut draining,
        } = self;
        let telemetry = config.service.telemetry.clone();
        handover::offer();
        draining.push(running.hand_over().await);
        draining.retain(|queue| !queue.is_finished());
        let (running, tree) = match pipeline::start(config, Arc::clone(&registry)).await {
            Ok(running) => {
                if let Err(error) = logs::start(&telemetry) {
                    tracing::error!(%error, "the log goes on as before");
                }
                tracing::info!("SIGHUP: the new configuration is running");
                (running, tree)
            }
            Err(error) => {
                tracing::error!(%error, "SIGHUP: the new configuration cannot start; the old one goes on");
                handover::offer();
                (restart(&old, &registry).await?, old)
            }
        };
        handover::close_rest();
        Ok(Self {
            running,
            tree,
            registry,
            draining,
        })
    }

    async fn stop(self) {
        self.running.stop().await;
        for queue in self.draining {
            if tokio::time::timeout(DRAINING_TIMEOUT, queue).await.is_err() {
                tracing::error!(
                    "a queue of an earlier configuration could not be drained; what was in it is lost"
                );
            }
        }
    }
}

/// Starts a configuration that was running before.
async fn restart(tree: &Node, registry: &Arc<Registry>) -> Result<Running, Failure> {
    let config = config::from_tree(tree).ok_or_else(|| StartError {
        component: "service".to_owned(),
        message: "the old configuration cannot be read any more".to_owned(),
    })?;
    Ok(pipeline::start(config, Arc::clone(registry)).await?)
}
