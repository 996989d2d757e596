//! A run, phase by phase: the same ones, in the same order, as in the real world.

use std::time::Duration;

use duress_conductor::{READY, Standing};
use duress_history::{EventKind, Outcome, Phase};
use duress_machine::Status;
use duress_workloads::{FinalOp, probe};

use crate::Ended;
use crate::event::Event;
use crate::host::role_name;
use crate::plan::nanos;
use crate::seat::{Final, Purpose};
use crate::state::{Running, Stage};

const MILLISECOND: u64 = 1_000_000;
/// A target of which nobody says that it leads is asked all the same after this long.
const ASK_ANYWAY: u64 = 2_000 * MILLISECOND;
/// The pause between a probe that failed and the next.
const AGAIN: u64 = 20 * MILLISECOND;

impl Running<'_> {
    fn enter(&mut self, stage: Stage) {
        self.s.stage = stage;
        self.s.stage_number += 1;
        // Not in order of the history's phases: healing and draining are parts of others.
        self.s.digest.word(stage as u64);
    }

    fn phase(&mut self, phase: Phase) {
        self.record(EventKind::Phase { phase });
    }

    /// The present stage may last this long.
    fn bound(&mut self, lasts: u64) {
        let stage = self.s.stage_number;
        self.after(lasts, Event::Deadline { stage });
    }

    pub(crate) fn in_main(&self) -> bool {
        self.s.stage == Stage::Main
    }

    /// Starts everything.
    pub(crate) fn boot(&mut self) {
        for slot in 0..self.plan.concurrency {
            self.slot_seat(slot);
        }
        for node in 0..self.plan.nodes.len() {
            self.start_node(node as u16);
        }
        self.bound(nanos(READY));
        let seat = self.extra_seat(Purpose::Probe { answered: false }, 0, 0);
        self.after(ASK_ANYWAY, Event::Probe { seat });
    }

    /// A node has said something new of itself.
    pub(crate) fn somebody_reported(&mut self, node: u16, status: &Status) {
        let serves = status.role.may_serve();
        if self.s.stage == Stage::Boot && serves {
            let seat = self.plan.concurrency;
            if self.s.seats[seat].doing.is_none() {
                self.s.seats[seat].node = usize::from(node);
                self.after(MILLISECOND, Event::Probe { seat: seat as u32 });
            }
        }
    }

    /// A probe asks its node again. About something of its own each time, so that what becomes
    /// of the operation never matters.
    pub(crate) fn probe(&mut self, seat: u32) {
        if self.s.seats[seat as usize].doing.is_some()
            || !matches!(self.s.stage, Stage::Boot | Stage::Quorum | Stage::Recovery)
        {
            return;
        }
        let number = self.s.next_probe;
        self.s.next_probe += 1;
        self.perform_op(seat, probe(self.plan.probe, number));
    }

    pub(crate) fn probe_ended(&mut self, seat: u32, outcome: Outcome) {
        if outcome != Outcome::Ok {
            return self.after(AGAIN, Event::Probe { seat });
        }
        self.s.seats[seat as usize].purpose = Purpose::Probe { answered: true };
        match self.s.stage {
            Stage::Boot => self.begin_main(),
            Stage::Quorum | Stage::Recovery => {
                let waiting = |seat: &_| matches!(seat, Purpose::Probe { answered: false });
                if !self.s.seats.iter().any(|seat| waiting(&seat.purpose)) {
                    if self.s.stage == Stage::Quorum { self.quorum_serves() } else { self.recovered() }
                }
            }
            _ => {}
        }
    }

    fn begin_main(&mut self) {
        self.enter(Stage::Main);
        self.phase(Phase::Main);
        self.s.main_began = self.s.now;
        self.s.slots_left = self.plan.concurrency;
        for slot in 0..self.plan.concurrency {
            self.after(0, Event::Slot { seat: slot as u32 });
        }
        let orders = self.s.conductor.begin(self.s.now);
        self.follow(orders);
        self.after(nanos(self.plan.time), Event::MainOver);
        if self.plan.concurrency == 0 {
            self.main_over();
        }
    }

    /// A slot's operation is over.
    pub(crate) fn slot_free(&mut self, seat: u32) {
        if self.in_main() && self.s.stats.operations >= self.plan.max_operations {
            self.main_over();
        }
        // An event of its own: a generator whose operations take no time must not recurse.
        self.after(0, Event::Slot { seat });
    }

    /// A slot has nothing more to do.
    pub(crate) fn slot_done(&mut self) {
        self.s.slots_left -= 1;
        match self.s.stage {
            Stage::Main if self.s.slots_left == 0 => self.main_over(),
            Stage::Draining => self.drained(),
            _ => {}
        }
    }

    /// The main phase is over: everything is healed.
    pub(crate) fn main_over(&mut self) {
        if self.s.stage != Stage::Main {
            return;
        }
        self.enter(Stage::Healing);
        // Before anything is healed, so that who is to stay away is never there in between.
        let orders = self.s.conductor.main_over(true, self.s.now);
        self.follow(orders);
        let orders = self.s.conductor.heal_all();
        self.follow(orders);
        self.all_healed();
    }

    /// A quorum has been healed, and no more: it must serve.
    fn begin_quorum(&mut self) {
        self.enter(Stage::Quorum);
        let orders = self.s.conductor.quorum();
        self.follow(orders);
        let healed = self.s.conductor.held().map(|held| held.healed.clone()).unwrap_or_default();
        let healed: Vec<usize> = healed.iter().filter_map(|name| self.host(name)).collect();
        for node in healed {
            let seat = self.extra_seat(Purpose::Probe { answered: false }, node, node);
            self.after(0, Event::Probe { seat });
        }
        self.bound(nanos(self.plan.recovery));
    }

    /// A quorum serves: now the rest is healed, too.
    fn quorum_serves(&mut self) {
        self.enter(Stage::Healing);
        let orders = self.s.conductor.end_hold();
        self.follow(orders);
        self.all_healed();
    }

    /// Goes on if nothing is in force any more, or nothing but what is to stay for now.
    pub(crate) fn all_healed(&mut self) {
        if self.s.stage != Stage::Healing {
            return;
        }
        match self.s.conductor.standing() {
            Standing::Faults => return,
            Standing::Rest => return self.begin_quorum(),
            Standing::Nothing => {}
        }
        self.enter(Stage::Draining);
        self.phase(Phase::Recovery);
        self.s.healed = self.s.now;
        let orders = self.s.conductor.operator();
        self.follow(orders);
        self.drained();
    }

    /// Goes on if no operation is in progress and every node that was shut off has started.
    pub(crate) fn drained(&mut self) {
        let starting = self.s.nodes.iter().any(|node| node.starting);
        if self.s.stage != Stage::Draining || self.s.busy_slots > 0 || starting {
            return;
        }
        self.enter(Stage::Recovery);
        // The probe that opened the run has been answered.
        for node in 0..self.plan.nodes.len() {
            let seat = self.extra_seat(Purpose::Probe { answered: false }, node, node);
            self.after(0, Event::Probe { seat });
        }
        self.bound(nanos(self.plan.recovery));
    }

    fn recovered(&mut self) {
        let recovery = Duration::from_nanos(self.s.now - self.s.healed);
        self.s.healed = self.s.now;
        self.phase(Phase::Final);
        self.enter(Stage::Converging);
        self.s.ended = None;
        self.s.recovery = recovery;
        if self.fleet.has_log() {
            self.bound(nanos(self.plan.recovery));
            self.converge();
        } else {
            self.finale();
        }
    }

    /// Goes on once all nodes have the same log.
    pub(crate) fn converge(&mut self) {
        if self.s.stage != Stage::Converging {
            return;
        }
        if self.agreed() {
            return self.finale();
        }
        self.after(AGAIN, Event::Converge);
    }

    fn agreed(&self) -> bool {
        let position = |node| self.status(node).map(|status| (status.commit_index, status.digest));
        let mut positions = (0..self.s.nodes.len()).map(position);
        match positions.next() {
            Some(Some(first)) => positions.all(|position| position == Some(first)),
            _ => false,
        }
    }

    /// The last questions, as many at a time as in the main phase.
    fn finale(&mut self) {
        self.enter(Stage::Final);
        let questions = self.generator.finale();
        self.s.finals.clear();
        self.s.finals.extend(questions.into_iter().map(|FinalOp { node, op }| Final { node, op }));
        self.s.finals_asked = 0;
        self.s.finals_open = 0;
        for _ in 0..self.plan.concurrency.max(1) {
            self.next_final();
        }
        self.over_if_all_asked();
    }

    fn next_final(&mut self) {
        let number = self.s.finals_asked;
        let Some(Final { node, op }) = self.s.finals.get(number).cloned() else { return };
        self.s.finals_asked += 1;
        self.s.finals_open += 1;
        let seat = self.extra_seat(Purpose::Final, number, node % self.plan.nodes.len());
        self.perform_op(seat, op);
    }

    pub(crate) fn final_ended(&mut self) {
        self.s.finals_open -= 1;
        self.next_final();
        self.over_if_all_asked();
    }

    fn over_if_all_asked(&mut self) {
        if self.s.stage == Stage::Final && self.s.finals_open == 0 {
            self.over(Ended::Complete { recovery: self.s.recovery, converged: self.s.converged });
        }
    }

    fn over(&mut self, ended: Ended) {
        self.phase(Phase::End);
        self.s.ended = Some(ended);
    }

    /// The time of a stage is up.
    pub(crate) fn deadline(&mut self, stage: u32) {
        if stage != self.s.stage_number {
            return;
        }
        match self.s.stage {
            Stage::Boot => self.over(Ended::NeverServed),
            Stage::Quorum | Stage::Recovery => {
                let stuck = self.stuck();
                let away = self.s.conductor.held().map(|held| held.away.clone()).unwrap_or_default();
                self.over(Ended::Unavailable { away, stuck });
            }
            Stage::Converging => {
                self.s.converged = false;
                self.finale();
            }
            _ => {}
        }
    }

    /// The nodes that have not answered, and what is known of why.
    fn stuck(&self) -> Vec<(duress_history::Host, String)> {
        let mut stuck = Vec::new();
        for seat in &self.s.seats {
            if seat.purpose != (Purpose::Probe { answered: false }) {
                continue;
            }
            let state = match self.status(seat.node) {
                None => "it is down".to_owned(),
                Some(status) => {
                    let leader = status.leader.and_then(|leader| self.plan.nodes.get(usize::from(leader.0)));
                    let leader = leader.map_or_else(|| "nobody".to_owned(), ToString::to_string);
                    format!("{} in term {}, follows {leader}", role_name(status.role), status.term)
                }
            };
            let asked = match (&seat.doing, seat.last_error.as_str()) {
                (Some(_), "") => "asked, no answer".to_owned(),
                (_, "") => "not asked".to_owned(),
                (_, error) => format!("last asked: {error}"),
            };
            stuck.push((self.plan.nodes[seat.node].clone(), format!("{state}; {asked}")));
        }
        stuck
    }
}
