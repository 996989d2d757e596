//! A back end that lacks a family of faults: who needs it is refused, in words and by type, before
//! anything begins; who doesn't is not.

use std::ffi::OsString;
use std::time::Duration;

use duress_backend::{Backend, Error, Family, HostSpec, Inside, Lacking, Options, Site};
use duress_fault::{
    ClockChange, Clocks, DiskHarm, Fault, Grudge, HostHarm, LinkHarm, Schedule, Selector, Share, Timed,
};
use duress_run::{Refusal, check};

/// The local back end, but for some families.
struct Without(&'static [Family]);

impl Backend for Without {
    fn name(&self) -> &'static str {
        "lame"
    }

    fn about(&self) -> &'static str {
        "a back end that can do less"
    }

    fn lacks(&self, family: Family) -> Option<Lacking> {
        let why = format!("{family} are out of reach. Use --world local");
        self.0.contains(&family).then(|| Lacking { family, needs: "what this one has not".into(), why })
    }

    fn enter(&self, args: &[OsString]) -> Result<Box<dyn Inside>, Error> {
        duress_local::BACKEND.enter(args)
    }

    fn prepare(&self) -> Result<(), Error> {
        duress_local::BACKEND.prepare()
    }

    fn interrupted(&self) -> bool {
        duress_local::BACKEND.interrupted()
    }

    fn up(&self, hosts: &[HostSpec], options: &Options) -> Result<Box<dyn Site>, Error> {
        duress_local::BACKEND.up(hosts, options)
    }
}

fn host(harm: HostHarm) -> Fault {
    Fault::Hosts { who: Selector::One, harm }
}

/// One of each family, and a crash.
fn schedule() -> Schedule {
    let faults = [
        Fault::crash(Selector::One),
        Fault::links(Grudge::IsolateOne, LinkHarm::Cut),
        Fault::links(Grudge::IsolateOne, LinkHarm::Loss(Share::percent(5))),
        host(HostHarm::Clock { clocks: Clocks::Wall, change: ClockChange::Jump(1) }),
        host(HostHarm::Stop),
        host(HostHarm::Disk(DiskHarm::Full)),
        host(HostHarm::PowerLoss { torn: false }),
    ];
    let timed = |(number, fault)| Timed {
        number: number as u64,
        at: Duration::ZERO,
        lasts: Duration::from_secs(1),
        fault,
        when: None,
    };
    Schedule::new(faults.into_iter().enumerate().map(timed).collect())
}

fn refused(lacking: &'static [Family], schedule: &Schedule, heal_first: bool) -> Refusal {
    check(&Without(lacking), schedule, heal_first).expect_err("it is lacking")
}

#[test]
fn what_is_lacking_is_refused_with_the_kinds_that_need_it() {
    for (family, kinds) in [
        (&[Family::Links], vec!["loss", "partition"]),
        (&[Family::Clocks], vec!["clock-jump"]),
        (&[Family::Processes], vec!["pause"]),
        (&[Family::Disks], vec!["full-disk", "power-loss"]),
    ] {
        let refusal = refused(family, &schedule(), false);
        assert_eq!((refusal.backend, refusal.lacking.family), ("lame", family[0]));
        assert_eq!(refusal.kinds, kinds);
        let said = refusal.to_string();
        let words = [family[0].to_string(), kinds.join(", "), "what this one has not".into(), "--world local".into()];
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    }
}

#[test]
fn healing_a_quorum_first_needs_links_that_can_be_cut() {
    let nothing = Schedule::default();
    assert_eq!(refused(&[Family::Links], &nothing, true).kinds, ["healing a quorum first"]);
    assert_eq!(check(&Without(&[Family::Links]), &nothing, false), Ok(()));
}

#[test]
fn what_is_not_needed_may_be_lacking() {
    let crash = Schedule::new(schedule().faults().iter().take(1).cloned().collect());
    assert_eq!(check(&Without(&Family::ALL), &crash, false), Ok(()));
    assert_eq!(check(&Without(&[]), &schedule(), true), Ok(()));
}
