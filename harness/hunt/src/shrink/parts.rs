//! The parts of a case that shrinking changes, one by one.

use std::time::Duration;

use duress_fault::{Fault, Grudge, Selector, Sides, Trigger};
use duress_history::{Event, EventKind, FaultEvent, Host, Phase, Stage};
use duress_scenario::Workload;
use duress_sim::Timed;

/// Fewer slots. A slot's pace stays what it was.
pub(super) fn set_concurrency(workload: &mut Workload, count: u16) {
    let before = f64::from(workload.concurrency());
    workload.set_rate(workload.rate().map(|rate| rate * f64::from(count) / before));
    workload.set_concurrency(count);
}

/// Leaves out hosts that are gone; whether anything of the fault is left.
pub(super) fn keep_hosts(timed: &mut Timed, there: impl Fn(&Host) -> bool) -> bool {
    if let Some(Trigger::Becomes { node: Some(node), .. }) = &timed.when
        && !there(node)
    {
        return false;
    }
    match &mut timed.fault {
        Fault::Links { grudge: Grudge::Links { links, .. }, .. } => {
            links.retain(|(from, to)| there(from) && there(to));
            !links.is_empty()
        }
        Fault::Hosts { who: Selector::Names(names), .. } => {
            names.retain(there);
            !names.is_empty()
        }
        _ => true,
    }
}

/// The same faults, but those that wait for others begin at the times at which they did in a run.
pub(super) fn untied(schedule: &[Timed], events: &[Event]) -> Vec<Timed> {
    let mut untied = schedule.to_vec();
    let mut began = None;
    for event in events {
        match &event.kind {
            EventKind::Phase { phase: Phase::Main } => began = Some(event.time),
            EventKind::Fault(hit) if hit.stage == Stage::Start && !hit.hosts.is_empty() => {
                let waited = |timed: &&mut Timed| {
                    timed.number == hit.fault && matches!(timed.when, Some(Trigger::Faults { .. }))
                };
                if let (Some(began), Some(timed)) = (began, untied.iter_mut().find(waited)) {
                    timed.when = None;
                    timed.at = Duration::from_nanos(event.time.0.saturating_sub(began.0));
                }
            }
            _ => {}
        }
    }
    untied.sort_by_key(|timed| (timed.at, timed.number));
    untied
}

/// The same faults with the hosts and links that they hit in a run; those that hit nobody are left
/// as they were.
pub fn concrete(schedule: &[Timed], events: &[Event]) -> Vec<Timed> {
    let mut named = schedule.to_vec();
    for event in events {
        let EventKind::Fault(hit) = &event.kind else { continue };
        if hit.stage != Stage::Start {
            continue;
        }
        if let Some(timed) = named.iter_mut().find(|timed| timed.number == hit.fault) {
            name_victims(&mut timed.fault, hit);
        }
    }
    named
}

fn name_victims(fault: &mut Fault, hit: &FaultEvent) {
    match fault {
        Fault::Links { grudge, clients, .. } if !hit.links.is_empty() => {
            (*grudge, *clients) = (links(&hit.links), Sides::Stay);
        }
        Fault::Hosts { who, .. } if !hit.hosts.is_empty() => *who = Selector::Names(hit.hosts.clone()),
        _ => {}
    }
}

/// Directed links; in pairs, if each is there with its opposite.
fn links(directed: &[(Host, Host)]) -> Grudge {
    let opposite = |(from, to): &(_, _)| directed.iter().any(|(a, b)| (a, b) == (to, from));
    if !directed.iter().all(opposite) {
        return Grudge::Links { links: directed.to_vec(), one_way: true };
    }
    let pairs = directed.iter().filter(|(from, to)| from < to);
    Grudge::Links { links: pairs.cloned().collect(), one_way: false }
}

#[cfg(test)]
mod tests {
    use duress_fault::Turn;
    use duress_history::Time;

    use super::*;

    #[test]
    fn links_are_written_in_pairs_where_they_can_be() {
        let link = |from: &str, to: &str| (from.into(), to.into());
        let both = [link("n1", "n2"), link("n2", "n1")];
        assert_eq!(links(&both), Grudge::Links { links: vec![link("n1", "n2")], one_way: false });
        assert_eq!(links(&both[1..]), Grudge::Links { links: vec![link("n2", "n1")], one_way: true });
    }

    #[test]
    fn faults_that_waited_for_others_begin_when_they_did() {
        let event = |ms: u64, kind| Event { time: Time(ms * 1_000_000), kind };
        let fault = |fault, stage, hosts: &[&str]| {
            let hosts = hosts.iter().map(|host| Host::from(*host)).collect();
            EventKind::Fault(FaultEvent {
                fault,
                stage,
                kind: "crash".into(),
                what: String::new(),
                hosts,
                links: vec![],
            })
        };
        let timed = |number, at, when| Timed {
            number,
            at: Duration::from_millis(at),
            lasts: Duration::from_millis(100),
            fault: Fault::Hosts { who: Selector::One, harm: duress_fault::HostHarm::PowerLoss { torn: true } },
            when,
        };
        let after = |number| Some(Trigger::Faults { numbers: [number].into(), turn: Turn::Ends });
        let operations = Some(Trigger::Operations(5));
        let schedule =
            [timed(1, 50, after(2)), timed(2, 10, None), timed(3, 0, after(1)), timed(4, 0, operations.clone())];
        let events = [
            event(1000, EventKind::Phase { phase: Phase::Main }),
            event(1010, fault(2, Stage::Start, &["n1"])),
            event(1020, fault(4, Stage::Start, &["n2"])),
            event(1160, fault(1, Stage::Start, &["n3"])),
            event(1900, fault(3, Stage::Start, &[])),
        ];
        let wanted = [timed(3, 0, after(1)), timed(4, 0, operations), timed(2, 10, None), timed(1, 160, None)];
        assert_eq!(untied(&schedule, &events), wanted, "3 hit nobody, and 4 waits for no fault");
    }
}
