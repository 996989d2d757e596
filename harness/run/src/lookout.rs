//! What faults wait for, as it is seen in the real world: nodes' reports as they come in, faults
//! as they are applied and healed, operations as they end.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use duress_fault::{Lookout, Schedule, Turn};
use duress_history::NodeReport;
use tokio::sync::watch;
use tokio::time::Instant;

/// Watches for the triggers of a schedule, and wakes the faults that wait for them.
#[derive(Debug)]
pub(crate) struct Sightings {
    lookout: Mutex<Lookout>,
    /// When the trigger of each fault fired, by the fault's number.
    fired: watch::Sender<BTreeMap<u64, Instant>>,
}

impl Sightings {
    pub(crate) fn new(schedule: &Schedule) -> Sightings {
        Sightings { lookout: Mutex::new(Lookout::over(schedule.faults())), fired: watch::Sender::default() }
    }

    /// The main phase begins: from now on things count.
    pub(crate) fn begin(&self) {
        self.see(|lookout| {
            lookout.begin();
            Vec::new()
        });
    }

    pub(crate) fn report(&self, report: &NodeReport) {
        // A checkpoint says nothing of the role.
        if let Some(role) = &report.role {
            self.see(|lookout| lookout.role(&report.node, role, report.leads, report.term.unwrap_or_default()));
        }
    }

    pub(crate) fn down(&self, node: &str) {
        self.see(|lookout| lookout.down(node));
    }

    pub(crate) fn fault(&self, number: u64, turn: Turn) {
        self.see(|lookout| lookout.fault(number, turn));
    }

    pub(crate) fn operation(&self) {
        self.see(Lookout::operation);
    }

    fn see(&self, what: impl FnOnce(&mut Lookout) -> Vec<u64>) {
        let mut lookout = self.lookout.lock().unwrap_or_else(PoisonError::into_inner);
        if lookout.is_idle() {
            return;
        }
        let fired = what(&mut lookout);
        drop(lookout);
        if !fired.is_empty() {
            let now = Instant::now();
            self.fired.send_modify(|known| known.extend(fired.into_iter().map(|number| (number, now))));
        }
    }

    /// Waits until the trigger of this fault has fired, and says when it did.
    pub(crate) async fn fired(&self, number: u64) -> Instant {
        let mut fired = self.fired.subscribe();
        let known = fired.wait_for(|known| known.contains_key(&number)).await;
        // The sender lives as long as we do, so waiting doesn't fail.
        known.ok().and_then(|known| known.get(&number).copied()).unwrap_or_else(Instant::now)
    }
}
