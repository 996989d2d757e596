//! The loop that runs a machine.
//!
//! One task owns the machine. Inputs come from the peers, the HTTP side, the timers, the disk and
//! the controller; effects are carried out in their order, except that bytes leave and the disk
//! is woken once per round, so that everything which was there at once shares system calls. The
//! loop never waits for a disk or a peer. It knows nothing of the protocol.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use duress_machine::{Effect, Effects, Input, Machine, NodeId, Observation, Reading, RequestId, Status};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior};
use tracing::warn;

use crate::NodeError;
use crate::clock;
use crate::control::Report;
use crate::disk::{Disk, Progress, Task};
use crate::timers::Timers;
use crate::transport::{Links, Received};

/// How many inputs of each kind one round handles at most, so that no kind starves another.
const ROUND: usize = 256;

/// While more disk tasks wait than this, nothing new is taken in.
const MAX_BACKLOG: usize = 16 << 10;

/// How many requests may wait for their answers.
const MAX_PENDING: usize = 16 << 10;

/// How often the controller is told the status when nothing changes.
pub(crate) const STATUS_INTERVAL: Duration = Duration::from_millis(200);

/// A client's request, with where its answer goes.
#[derive(Debug)]
pub(crate) struct Call<M: Machine> {
    pub(crate) request: M::Request,
    pub(crate) reply: oneshot::Sender<M::Response>,
}

/// What a node says of itself, and when by its own clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Snapshot {
    pub(crate) status: Status,
    pub(crate) reading: Reading,
}

/// What the controller or the HTTP side wants of the driver itself.
#[derive(Debug)]
pub(crate) enum Wish {
    /// Another node has been shut off.
    Fenced(NodeId),
    /// Report the status to the controller.
    Report,
    /// Tell the status.
    Status(oneshot::Sender<Snapshot>),
    /// End.
    Shutdown,
}

/// Where inputs come from.
#[derive(Debug)]
pub(crate) struct Inputs<M: Machine> {
    pub(crate) received: mpsc::Receiver<Received<M>>,
    pub(crate) calls: mpsc::Receiver<Call<M>>,
    pub(crate) wishes: mpsc::Receiver<Wish>,
    pub(crate) progress: watch::Receiver<Progress>,
}

/// Where effects go.
#[derive(Debug)]
pub(crate) struct Outputs<M: Machine> {
    pub(crate) links: Links,
    pub(crate) disk: Disk<M::Record>,
    pub(crate) reports: Option<mpsc::Sender<Report>>,
    /// The term last heard of, for answers that are given without asking the machine.
    pub(crate) term: Arc<AtomicU64>,
}

#[derive(Debug)]
pub(crate) struct Driver<M: Machine> {
    machine: M,
    effects: Effects<M>,
    timers: Timers<M::Timer>,
    pending: BTreeMap<RequestId, oneshot::Sender<M::Response>>,
    requests: u64,
    out: Outputs<M>,
    reports_dropped: u64,
    shutdown: bool,
}

impl<M: Machine> Driver<M> {
    /// Starts `machine` with what its log held.
    pub(crate) fn start(machine: M, recovered: Vec<M::Record>, out: Outputs<M>) -> Driver<M> {
        let mut driver = Driver {
            machine,
            effects: Effects::default(),
            timers: Timers::default(),
            pending: BTreeMap::new(),
            requests: 0,
            out,
            reports_dropped: 0,
            shutdown: false,
        };
        driver.step(Input::Started { recovered });
        driver.finish_round();
        driver.report(Report::Ready);
        driver.report_status();
        driver
    }

    /// Runs until told to shut down or the disk fails.
    pub(crate) async fn run(mut self, mut inputs: Inputs<M>) -> Result<(), NodeError> {
        let mut tick = tokio::time::interval(STATUS_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let alarm = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(alarm);
        let mut alarm_at = None;
        while !self.shutdown {
            if self.timers.next() != alarm_at {
                alarm_at = self.timers.next();
                if let Some(deadline) = alarm_at {
                    alarm.as_mut().reset(Instant::now() + deadline.saturating_sub(clock::monotonic()));
                }
            }
            let room = self.out.disk.backlog() < MAX_BACKLOG;
            tokio::select! {
                biased;
                changed = inputs.progress.changed() => {
                    changed.map_err(|_| disk_ended(&inputs.progress))?;
                    self.durable(&mut inputs.progress)?;
                }
                Some(wish) = inputs.wishes.recv() => self.wish(wish),
                Some(received) = inputs.received.recv(), if room => self.received(received),
                Some(call) = inputs.calls.recv(), if room && self.pending.len() < MAX_PENDING => self.call(call),
                // Armed again above even if it rang early by the node's own clock.
                () = &mut alarm, if alarm_at.is_some() => alarm_at = None,
                _ = tick.tick() => self.tick(),
            }
            self.take_what_is_there(&mut inputs)?;
            self.finish_round();
        }
        Ok(())
    }

    /// Handles whatever else has arrived by now, within bounds.
    fn take_what_is_there(&mut self, inputs: &mut Inputs<M>) -> Result<(), NodeError> {
        if inputs.progress.has_changed().map_err(|_| disk_ended(&inputs.progress))? {
            self.durable(&mut inputs.progress)?;
        }
        for _ in 0..ROUND {
            let Ok(wish) = inputs.wishes.try_recv() else { break };
            self.wish(wish);
        }
        for _ in 0..ROUND {
            if self.out.disk.backlog() >= MAX_BACKLOG {
                break;
            }
            let Ok(received) = inputs.received.try_recv() else { break };
            self.received(received);
        }
        for _ in 0..ROUND {
            if self.out.disk.backlog() >= MAX_BACKLOG || self.pending.len() >= MAX_PENDING {
                break;
            }
            let Ok(call) = inputs.calls.try_recv() else { break };
            self.call(call);
        }
        let now = clock::monotonic();
        for _ in 0..ROUND {
            let Some(timer) = self.timers.pop(now) else { break };
            self.step(Input::Timer(timer));
        }
        Ok(())
    }

    /// Lets go what the round gathered for the peers and the disk.
    fn finish_round(&mut self) {
        self.out.disk.kick();
        self.out.links.flush();
    }

    fn durable(&mut self, progress: &mut watch::Receiver<Progress>) -> Result<(), NodeError> {
        let progress = progress.borrow_and_update().clone();
        match progress {
            Progress::Durable(through) => self.step(Input::Durable { through }),
            Progress::Failed(error) => return Err(NodeError::Disk(error)),
        }
        Ok(())
    }

    fn received(&mut self, received: Received<M>) {
        for message in received.messages {
            self.step(Input::Message { from: received.from, message });
        }
    }

    fn call(&mut self, call: Call<M>) {
        self.requests += 1;
        let id = RequestId(self.requests);
        self.pending.insert(id, call.reply);
        self.step(Input::Request { id, request: call.request });
    }

    fn wish(&mut self, wish: Wish) {
        match wish {
            Wish::Fenced(node) => self.step(Input::Fenced { node }),
            Wish::Report => self.report_status(),
            Wish::Status(reply) => {
                // Whoever asked may have gone.
                let _ = reply.send(self.snapshot());
            }
            Wish::Shutdown => self.shutdown = true,
        }
    }

    fn tick(&mut self) {
        self.report_status();
        // Those who hung up wait for nothing.
        self.pending.retain(|_, reply| !reply.is_closed());
        if self.reports_dropped > 0 {
            warn!("the controller reads too slowly: {} reports were dropped", self.reports_dropped);
            self.reports_dropped = 0;
        }
    }

    fn step(&mut self, input: Input<M>) {
        let now = clock::now();
        self.machine.step(input, now, &mut self.effects);
        // Out of `self`, so that carrying them out may borrow the rest; put back with its memory.
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain() {
            self.perform(effect, now);
        }
        self.effects = effects;
    }

    fn perform(&mut self, effect: Effect<M>, now: Reading) {
        match effect {
            Effect::Send { to, message } => self.out.links.send(to, &message),
            Effect::SetTimer { timer, after } => self.timers.set(timer, now.monotonic + after),
            Effect::CancelTimer { timer } => self.timers.cancel(timer),
            Effect::Append { record } => self.out.disk.push(Task::Append(record)),
            Effect::Rewrite { records } => self.out.disk.push(Task::Rewrite(records)),
            Effect::Sync => self.out.disk.push(Task::Sync),
            Effect::Respond { id, response } => {
                if let Some(reply) = self.pending.remove(&id) {
                    // Whoever asked may have hung up.
                    let _ = reply.send(response);
                }
            }
            Effect::Observe(observation) => {
                if let Observation::Status(status) = &observation {
                    self.out.term.store(status.term, Ordering::Relaxed);
                }
                let changed = matches!(observation, Observation::Status(_));
                self.report(Report::Observation(observation));
                if changed {
                    self.report_status();
                }
            }
            Effect::Fence { node } => self.report(Report::Fence { node }),
        }
    }

    fn snapshot(&self) -> Snapshot {
        let reading = clock::now();
        Snapshot { status: self.machine.status(reading), reading }
    }

    fn report_status(&mut self) {
        let Snapshot { status, reading } = self.snapshot();
        self.out.term.store(status.term, Ordering::Relaxed);
        self.report(Report::Status { status, wall: reading.wall, monotonic: reading.monotonic });
    }

    fn report(&mut self, report: Report) {
        let Some(reports) = &self.out.reports else { return };
        match reports.try_send(report) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => self.reports_dropped += 1,
            Err(mpsc::error::TrySendError::Closed(_)) => self.out.reports = None,
        }
    }
}

/// Why the disk thread is no more. Its last words may not have been read yet.
fn disk_ended(progress: &watch::Receiver<Progress>) -> NodeError {
    match &*progress.borrow() {
        Progress::Failed(error) => NodeError::Disk(Arc::clone(error)),
        Progress::Durable(_) => NodeError::DiskThread,
    }
}
