//! The thread that owns the log.
//!
//! The driver must never wait for a disk, so writes go to a thread of their own. It takes
//! everything that is queued at once and makes it durable with one write and one `fdatasync`:
//! the slower the disk, the larger the groups (group commit).

use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use serde::Serialize;
use tokio::sync::watch;

use crate::log::{Log, LogError};

/// What the disk is asked to do, in order.
#[derive(Debug)]
pub(crate) enum Task<R> {
    /// Append a record.
    Append(R),
    /// Replace the log.
    Rewrite(Vec<R>),
    /// Make everything before this durable and say so.
    Sync,
}

/// How far the disk has come.
#[derive(Clone, Debug)]
pub(crate) enum Progress {
    /// This many writes of this life are durable.
    Durable(u64),
    /// A write or a sync failed; the thread has ended and nothing more is durable.
    Failed(Arc<LogError>),
}

/// A handle to the disk thread.
#[derive(Debug)]
pub(crate) struct Disk<R> {
    shared: Arc<Shared<R>>,
    /// Tasks gathered since the last [`kick`](Disk::kick).
    gathered: Vec<Task<R>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared<R> {
    queue: Mutex<Queue<R>>,
    wake: Condvar,
    /// Tasks queued or in progress.
    backlog: AtomicUsize,
}

#[derive(Debug)]
struct Queue<R> {
    tasks: Vec<Task<R>>,
    closed: bool,
}

impl<R> Shared<R> {
    fn queue(&self) -> MutexGuard<'_, Queue<R>> {
        // Nothing that holds the lock can panic half-way through a change.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R: Serialize + Send + 'static> Disk<R> {
    /// Starts the thread. The receiver tells how far the log has become durable, and if it fails.
    pub(crate) fn start(log: Log) -> std::io::Result<(Disk<R>, watch::Receiver<Progress>)> {
        let queue = Mutex::new(Queue { tasks: Vec::new(), closed: false });
        let shared = Arc::new(Shared { queue, wake: Condvar::new(), backlog: AtomicUsize::new(0) });
        let (progress, watching) = watch::channel(Progress::Durable(0));
        let theirs = Arc::clone(&shared);
        let thread = thread::Builder::new().name("disk".into()).spawn(move || {
            if let Err(error) = run(log, &theirs, &progress) {
                progress.send_replace(Progress::Failed(Arc::new(error)));
            }
        })?;
        Ok((Disk { shared, gathered: Vec::new(), thread: Some(thread) }, watching))
    }

    /// Adds a task. The thread hears of it at the next [`kick`](Disk::kick).
    pub(crate) fn push(&mut self, task: Task<R>) {
        self.gathered.push(task);
    }

    /// Hands over what was gathered.
    pub(crate) fn kick(&mut self) {
        if self.gathered.is_empty() {
            return;
        }
        self.shared.backlog.fetch_add(self.gathered.len(), Ordering::Relaxed);
        let mut queue = self.shared.queue();
        if queue.tasks.is_empty() {
            mem::swap(&mut queue.tasks, &mut self.gathered);
        } else {
            queue.tasks.append(&mut self.gathered);
        }
        drop(queue);
        self.shared.wake.notify_one();
    }

    /// How many tasks wait or are in progress: when it is large, take in no more work.
    pub(crate) fn backlog(&self) -> usize {
        self.shared.backlog.load(Ordering::Relaxed) + self.gathered.len()
    }
}

impl<R> Drop for Disk<R> {
    /// Lets the thread finish what was handed over and ends it.
    fn drop(&mut self) {
        self.shared.queue().closed = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed by its hook, and the driver sees its channel close.
            let _ = thread.join();
        }
    }
}

fn run<R: Serialize>(mut log: Log, shared: &Shared<R>, progress: &watch::Sender<Progress>) -> Result<(), LogError> {
    let mut tasks: Vec<Task<R>> = Vec::new();
    let mut position = 0;
    loop {
        let mut queue = shared.queue();
        while queue.tasks.is_empty() && !queue.closed {
            queue = shared.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        mem::swap(&mut queue.tasks, &mut tasks);
        drop(queue);
        if tasks.is_empty() {
            return log.write();
        }
        let count = tasks.len();
        let mut sync = false;
        for task in tasks.drain(..) {
            match task {
                Task::Append(record) => {
                    log.append(&record)?;
                    position += 1;
                }
                Task::Rewrite(records) => {
                    log.rewrite(&records)?;
                    position += 1;
                }
                Task::Sync => sync = true,
            }
        }
        if sync {
            log.sync()?;
            progress.send_replace(Progress::Durable(position));
        } else {
            log.write()?;
        }
        shared.backlog.fetch_sub(count, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_reported_durable_and_are() {
        let directory = tempfile::tempdir().unwrap();
        let (log, _) = Log::open::<u32>(directory.path()).unwrap();
        let (mut disk, mut progress) = Disk::start(log).unwrap();
        for record in 0..500_u32 {
            disk.push(Task::Append(record));
            disk.push(Task::Sync);
            disk.kick();
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let end = runtime.block_on(progress.wait_for(|progress| matches!(progress, Progress::Durable(500))));
        assert!(end.is_ok());
        drop(end);
        drop(disk);
        assert_eq!(Log::open::<u32>(directory.path()).unwrap().1, (0..500).collect::<Vec<_>>());
    }
}
