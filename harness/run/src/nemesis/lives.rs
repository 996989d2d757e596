//! A crash loop: a node is killed and started again and again, each time shortly after it was
//! started, so that some kills hit it while it starts up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use duress_backend::ProcessState;
use duress_conductor::Order;
use duress_history::Host;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::blocking;
use crate::RunError;
use crate::cluster::Cluster;

/// How long the first life may take to end before the loop is not believed to loop.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the loop and its owner share.
#[derive(Default)]
struct Shared {
    over: watch::Sender<bool>,
    /// Lives that were ended, each seen gone.
    ended: AtomicU64,
    /// Whether another fault holds the node down; held while it is started.
    held: Mutex<usize>,
}

/// A node in a crash loop.
pub(super) struct Lives {
    shared: Arc<Shared>,
    task: JoinHandle<Result<(), RunError>>,
}

impl Lives {
    /// Begins: the first life ends at once, and the conductor says when the next does. `held` is how
    /// many other faults hold the node down.
    pub(super) fn start(cluster: Arc<Cluster>, fault: u64, host: Host, node: usize, held: usize) -> Lives {
        let shared = Arc::new(Shared { held: Mutex::new(held), ..Shared::default() });
        let theirs = shared.clone();
        let task = tokio::spawn(async move {
            let mut over = theirs.over.subscribe();
            loop {
                strike(&cluster, &host, node, &theirs).await?;
                if !next(&cluster, fault, node, &mut over).await {
                    return Ok(());
                }
            }
        });
        Lives { shared, task }
    }

    /// How many lives were ended so far.
    pub(super) fn ended(&self) -> u64 {
        self.shared.ended.load(Ordering::Relaxed)
    }

    /// Waits until the first life was ended, with a bound; returns how many were.
    pub(super) async fn begun(&self) -> u64 {
        let deadline = Instant::now() + PATIENCE;
        while self.ended() == 0 && Instant::now() < deadline && !self.task.is_finished() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.ended()
    }

    /// Another fault holds the node down, or does no longer; it is not started meanwhile.
    pub(super) fn hold(&self, down: bool) {
        let mut held = self.shared.held.lock().unwrap_or_else(PoisonError::into_inner);
        *held = if down { *held + 1 } else { held.saturating_sub(1) };
    }

    /// Ends the loop, whatever becomes of the node; returns how many lives were ended.
    pub(super) async fn stop(self) -> Result<u64, RunError> {
        self.shared.over.send_replace(true);
        let ended = self.task.await;
        ended.unwrap_or_else(|e| Err(RunError::Harness(format!("a crash loop's task died: {e}"))))?;
        Ok(self.shared.ended.load(Ordering::Relaxed))
    }
}

/// Ends a life, and begins another.
async fn strike(cluster: &Arc<Cluster>, host: &Host, node: usize, shared: &Shared) -> Result<(), RunError> {
    let alive = cluster.is_up(node);
    let victim = cluster.clone();
    blocking(move || victim.kill_node(node)).await??;
    if alive && cluster.process_state(host) == ProcessState::Gone {
        shared.ended.fetch_add(1, Ordering::Relaxed);
    }
    let held = shared.held.lock().unwrap_or_else(PoisonError::into_inner);
    if *held == 0 && !*shared.over.borrow() { cluster.start_node(node) } else { Ok(()) }
}

/// Waits until the conductor has the fault strike again; false if it doesn't any more. Not by the
/// nemesis' own clock: that stands still while another fault is measured.
async fn next(cluster: &Cluster, fault: u64, node: usize, over: &mut watch::Receiver<bool>) -> bool {
    let conducting = &cluster.conducting;
    let waits = conducting.ask(|conductor, now| conductor.struck(fault, node, now));
    let [Order::Wait { at, wake }] = waits[..] else { return false };
    tokio::select! {
        () = tokio::time::sleep_until(conducting.moment(at)) => {}
        _ = over.wait_for(|over| *over) => return false,
    }
    !conducting.ask(|conductor, _| conductor.wake(wake)).is_empty()
}
