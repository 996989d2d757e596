//! The conductor in the real world: told of what is seen from many threads, and obeyed.
//!
//! What can be obeyed at once and from anywhere is obeyed here: to record, and to wait. The rest is
//! the [nemesis](crate::nemesis)'.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use duress_conductor::{Conductor, Order, Wake};
use duress_history::{EventKind, NodeReport};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::Recorder;

/// The conductor, and what it goes by.
#[derive(Debug)]
pub(crate) struct Conducting {
    conductor: Mutex<Conductor>,
    recorder: Recorder,
    /// Its times are counted from here.
    zero: Instant,
    runtime: Handle,
    woken: mpsc::UnboundedSender<Wake>,
}

impl Conducting {
    /// Within a runtime. What the conductor waited for goes to `woken`.
    pub(crate) fn new(conductor: Conductor, recorder: Recorder, woken: mpsc::UnboundedSender<Wake>) -> Conducting {
        let (zero, runtime) = (Instant::now(), Handle::current());
        Conducting { conductor: Mutex::new(conductor), recorder, zero, runtime, woken }
    }

    /// The conductor. Whoever has it must not wait for anything, nor lock a node.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Conductor> {
        self.conductor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This moment, as the conductor counts it.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.zero.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// A moment of the conductor's.
    pub(crate) fn moment(&self, at: u64) -> Instant {
        self.zero + Duration::from_nanos(at).min(FOREVER)
    }

    /// The main phase begins.
    pub(crate) fn begin(&self) {
        self.tell(Conductor::begin);
    }

    pub(crate) fn report(&self, node: usize, report: &NodeReport) {
        // A checkpoint says nothing of the role.
        if let Some(role) = &report.role {
            let term = report.term.unwrap_or_default();
            self.tell(|conductor, now| conductor.role(node, role, report.leads, term, now));
        }
    }

    pub(crate) fn down(&self, node: usize) {
        self.tell(|conductor, now| conductor.down(node, now));
    }

    pub(crate) fn operation(&self) {
        self.tell(Conductor::operation);
    }

    /// Tells the conductor of something to which it answers with nothing but records and waits.
    pub(crate) fn tell(&self, what: impl FnOnce(&mut Conductor, u64) -> Vec<Order>) {
        let orders = self.ask(what);
        for order in orders {
            let done = self.obey(&order);
            debug_assert!(done, "nobody is there to obey {order:?}");
        }
    }

    /// Tells the conductor of something, and returns what it orders.
    pub(crate) fn ask(&self, what: impl FnOnce(&mut Conductor, u64) -> Vec<Order>) -> Vec<Order> {
        let now = self.now();
        what(&mut self.lock(), now)
    }

    /// Obeys an order that needs nothing but a record or a clock; false if it is another one.
    pub(crate) fn obey(&self, order: &Order) -> bool {
        match order {
            Order::Fault(event) => {
                self.recorder.record(EventKind::Fault(event.clone()));
            }
            Order::Evidence(evidence) => {
                self.recorder.record(EventKind::Evidence(evidence.clone()));
            }
            Order::Wait { at, wake } => {
                let (at, wake, woken) = (self.moment(*at), *wake, self.woken.clone());
                self.runtime.spawn(async move {
                    tokio::time::sleep_until(at).await;
                    // Nobody listens any more once everything is healed.
                    let _ = woken.send(wake);
                });
            }
            Order::GaveUp { .. } => {}
            _ => return false,
        }
        true
    }
}

/// Longer than any run.
const FOREVER: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
