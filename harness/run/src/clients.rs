//! The clients: slots that take operations from the generator, hand them to client hosts, and
//! record how they end.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use duress_history::{Client, Completion, EventKind, Host, Invocation, Op, Outcome, Process, Value};
use duress_workloads::client::{Resource, Write, at_work};
use duress_workloads::{Generator, Next, Slot};
use smol_str::SmolStr;
use tokio::sync::{mpsc, oneshot, watch};

use crate::cluster::Cluster;
use crate::{ClientReport, Progress, Recorder};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The calls in progress, and the resource that locks protect.
pub(crate) struct Clients {
    cluster: Arc<Cluster>,
    recorder: Recorder,
    progress: Progress,
    calls: Mutex<HashMap<u64, Waiting>>,
    next_call: AtomicU64,
    next_process: AtomicU64,
    resource: Mutex<Resource>,
    /// A call may take this long before the client host is given up on.
    patience: Duration,
}

struct Waiting {
    op: Op,
    since: Instant,
    client: usize,
    done: oneshot::Sender<Done>,
}

/// How a call ended.
struct Done {
    outcome: Outcome,
    result: Value,
    error: Option<SmolStr>,
    node: Option<usize>,
    term: Option<u64>,
}

/// A process in progress: who it is, where it runs, whom it asks first.
#[derive(Clone, Debug)]
pub(crate) struct Seat {
    pub(crate) process: Process,
    /// Operations of this process so far.
    sequence: u64,
    client: usize,
    node: usize,
    /// Whom it asks first: its node, or the one that answered last.
    first: usize,
}

impl Clients {
    pub(crate) fn new(
        cluster: Arc<Cluster>,
        progress: Progress,
        concurrency: usize,
        fencing: bool,
        patience: Duration,
    ) -> Arc<Clients> {
        Arc::new(Clients {
            recorder: cluster.recorder.clone(),
            cluster,
            progress,
            calls: Mutex::default(),
            next_call: AtomicU64::new(0),
            next_process: AtomicU64::new(concurrency as u64),
            resource: Mutex::new(Resource::new(fencing)),
            patience,
        })
    }

    /// The seat of a slot: its first process has the slot's number; slots take client hosts and
    /// nodes in turn.
    pub(crate) fn seat(&self, slot: usize) -> Seat {
        Seat {
            process: Process(slot as u64),
            sequence: 0,
            client: slot % self.cluster.client_names.len(),
            node: slot % self.cluster.node_names.len(),
            first: slot % self.cluster.node_names.len(),
        }
    }

    /// A new process that runs on the given client host and asks the given node.
    pub(crate) fn extra_seat(&self, client: usize, node: usize) -> Seat {
        let client = client % self.cluster.client_names.len();
        Seat { process: self.new_process(), sequence: 0, client, node, first: node }
    }

    fn new_process(&self) -> Process {
        Process(self.next_process.fetch_add(1, Ordering::Relaxed))
    }

    /// Carries out one operation and records both its ends. After an indeterminate one the seat
    /// has a new process.
    pub(crate) async fn perform(&self, seat: &mut Seat, op: Op) -> Completion {
        let call = self.next_call.fetch_add(1, Ordering::Relaxed);
        let (done, end) = oneshot::channel();
        seat.sequence += 1;
        let frame = self.cluster.target.invoke(call, seat.process, seat.sequence, &op, seat.first);
        lock(&self.calls).insert(call, Waiting { op: op.clone(), since: Instant::now(), client: seat.client, done });
        self.recorder.record(EventKind::Invoke(Invocation {
            process: seat.process,
            client: Some(Client {
                host: self.cluster.client_names[seat.client].clone(),
                node: self.cluster.node_names[seat.node].clone(),
            }),
            op: op.clone(),
        }));
        self.cluster.tell_client(seat.client, frame);
        let done = match tokio::time::timeout(self.patience, end).await {
            Ok(Ok(done)) => done,
            _ => Done {
                outcome: Outcome::Info,
                result: Value::Nil,
                error: Some("client-silent".into()),
                node: None,
                term: None,
            },
        };
        lock(&self.calls).remove(&call);
        seat.first = match (done.node, done.outcome) {
            (Some(node), Outcome::Ok) if self.cluster.target.sticky() => node,
            _ => seat.node,
        };
        let completion = Completion {
            process: seat.process,
            outcome: done.outcome,
            op,
            result: done.result,
            error: done.error,
            node: done.node.and_then(|node| self.cluster.node_names.get(node).cloned()),
            term: done.term,
        };
        self.recorder.record(EventKind::Complete(completion.clone()));
        self.progress.operation(completion.outcome);
        if completion.outcome == Outcome::Info {
            seat.process = self.new_process();
            seat.sequence = 0;
        }
        completion
    }

    /// Takes in what the client hosts say, until they are gone.
    pub(crate) async fn listen(self: Arc<Self>, mut frames: mpsc::UnboundedReceiver<Vec<u8>>) {
        while let Some(frame) = frames.recv().await {
            match self.cluster.target.client_report(&frame) {
                Ok(ClientReport::Done { call, outcome, result, error, node, term }) => {
                    if let Some(waiting) = lock(&self.calls).remove(&call) {
                        // A slot that has lost patience has recorded the operation as unknown.
                        let _ = waiting.done.send(Done { outcome, result, error, node, term });
                    }
                }
                Ok(ClientReport::ResourceWrite { call, lock: name, token }) => {
                    let client = lock(&self.calls).get(&call).map(|waiting| waiting.client);
                    if let Some(client) = client {
                        let refused = lock(&self.resource).write(Write { lock: name, token }).err();
                        self.cluster.tell_client(client, self.cluster.target.resource_answer(call, refused));
                    }
                }
                Err(e) => tracing::warn!("a client host was not understood: {e}"),
            }
        }
    }

    /// The client host that is in the middle of using a locked resource at this moment: it has
    /// checked its lease some time ago, and has most of its work before its write still to do.
    pub(crate) fn holder(&self) -> Option<Host> {
        let calls = lock(&self.calls);
        let mut best: Option<(Duration, usize)> = None;
        for waiting in calls.values() {
            if let Some(left) = at_work(&waiting.op, waiting.since.elapsed()) {
                // Ties don't matter; the order of a hash map must not either.
                best = best.max(Some((left, waiting.client)));
            }
        }
        best.map(|(_, client)| self.cluster.client_names[client].clone())
    }
}

/// One slot at work: asks the generator what to do until it has nothing more or is told to stop.
pub(crate) async fn work(
    clients: Arc<Clients>,
    generator: Arc<Mutex<Box<dyn Generator>>>,
    slot: usize,
    began: tokio::time::Instant,
    mut stop: watch::Receiver<bool>,
) {
    let mut seat = clients.seat(slot);
    loop {
        if *stop.borrow() {
            return;
        }
        let who = Slot { index: slot, process: seat.process };
        let next = lock(&generator).next(who, began.elapsed());
        match next {
            Next::Done => return,
            Next::Wait(until) => {
                // Never a busy loop, even if a generator asks for a moment that has passed.
                let at = (began + until).max(tokio::time::Instant::now() + Duration::from_micros(200));
                tokio::select! {
                    () = tokio::time::sleep_until(at) => {}
                    _ = stop.wait_for(|stop| *stop) => return,
                }
            }
            Next::Op(op) => {
                let completion = clients.perform(&mut seat, op).await;
                clients.cluster.conducting.operation();
                lock(&generator).completed(who, &completion, began.elapsed());
            }
        }
    }
}
