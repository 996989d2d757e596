//! Locks that several may hold: semaphores and read/write locks; and how fairly a lock is granted.
//!
//! An acquisition surely holds from its successful completion to the invocation of the same
//! process's next release that doesn't fail; for good, if there is none. That is also the shortest
//! that it can have held, so there is an order that agrees with real time (Herlihy and Wing, 1990)
//! if and only if these spans never break the rule. Acquisitions that failed hold nothing; of those
//! of unknown outcome, nothing is certain. A process may hold several times; each release ends the
//! acquisition before it. A release by a process that can't hold anything is a violation.
//!
//! - `semaphore`: at most *n* permits are held at once, where *n* is the setting, and an acquisition
//!   or release takes or gives back as many as its value says (one if it says none). Without the
//!   setting, how many were surely held at once is measured, and the verdict is unknown.
//! - `rw-lock`: while a process holds exclusively, no other holds. The value, or the function's name,
//!   says how: `:read`, `:shared`, `acquire-read`, `read-lock`; anything else is exclusive.
//! - `mutex-fair`: as a mutex, and an acquisition is granted before one that was invoked after it:
//!   if one is *bypassed* (invoked earlier, granted later), that is a violation, as first come first
//!   served asks it (Lamport, *A New Solution of Dijkstra's Concurrent Programming Problem*, 1974;
//!   requests count as made when invoked, since a client can't know when they arrive). Waits are
//!   measured. A lock with requests that never ended, which nobody can have held when the history
//!   ended, is *deadlocked*; a request that never ended though a later one was granted *starved*.
//!
//! O(n log n).

use std::collections::{BTreeMap, BTreeSet};

use duress_history::Outcome;
use duress_history::formats::{Function, Operation, Value};

use super::counts::Counts;
use super::{Findings, Judgement, Unfit, by_key, end, nanos, of_key, told};
use crate::words;
use crate::{Run, Settings};

pub(in super::super) const SEMAPHORE: Judgement = Judgement {
    name: "semaphore",
    about: "at most n permits are held at once (--permits n): acquire, release, each of one permit or of the value's",
    judge: semaphore,
};

pub(in super::super) const RW_LOCK: Judgement = Judgement {
    name: "rw-lock",
    about: "who holds exclusively holds alone: acquire :read or :write, release",
    judge: rw_lock,
};

pub(in super::super) const MUTEX_FAIR: Judgement = Judgement {
    name: "mutex-fair",
    about: "one holder at a time, first come first served, nobody starves: acquire, release",
    judge: mutex_fair,
};

/// One acquisition that succeeded, and what of it is certain.
#[derive(Clone, Copy)]
struct Holding {
    acquire: usize,
    release: Option<usize>,
    process: u64,
    permits: u64,
    exclusive: bool,
    from: u64,
    to: u64,
}

fn acquires(operation: &Operation) -> Option<bool> {
    match &operation.op.f {
        Function::Acquire => Some(true),
        Function::Release => Some(false),
        Function::Other(name) => match name.as_str() {
            "lock" | "read-lock" | "write-lock" | "acquire-read" | "acquire-write" | "acquire-shared"
            | "acquire-exclusive" => Some(true),
            "unlock" | "read-unlock" | "write-unlock" | "release-read" | "release-write" | "release-shared"
            | "release-exclusive" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

fn shared(operation: &Operation) -> bool {
    let says = |name: &str| matches!(name, "read" | "shared" | "r" | "s");
    let name = operation.op.f.name();
    name.split('-').any(says)
        || matches!(&operation.op.value, Value::Keyword(mode) | Value::Text(mode) | Value::Symbol(mode) if says(mode))
}

fn permits(operation: &Operation) -> u64 {
    operation.op.value.as_int().and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0).unwrap_or(1)
}

/// The holdings of one lock, and releases of nothing.
fn holdings(history: &Run<'_>, operations: &[usize]) -> Result<(Vec<Holding>, Vec<usize>), Unfit> {
    let mut holdings: Vec<Holding> = Vec::new();
    // What each process holds, and how often it may hold besides.
    let mut held: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    let mut perhaps: BTreeMap<u64, usize> = BTreeMap::new();
    let mut strange = Vec::new();
    for &at in operations {
        let operation = &history.operations[at];
        let process = operation.process.0;
        let acquires = acquires(operation).ok_or_else(|| Unfit::function(operation, "acquire and release"))?;
        match (acquires, operation.outcome) {
            (_, Outcome::Fail) => {}
            (true, Outcome::Ok) => {
                held.entry(process).or_default().push(holdings.len());
                let (permits, exclusive) = (permits(operation), !shared(operation));
                let from = end(operation);
                holdings.push(Holding { acquire: at, release: None, process, permits, exclusive, from, to: u64::MAX });
            }
            (true, Outcome::Info) => *perhaps.entry(process).or_default() += 1,
            (false, outcome) => match held.get_mut(&process).and_then(Vec::pop) {
                Some(holding) => {
                    holdings[holding].to = operation.invoked.index;
                    holdings[holding].release = Some(at);
                }
                None => match perhaps.get_mut(&process).filter(|n| **n > 0) {
                    Some(n) => *n -= 1,
                    None if outcome == Outcome::Ok => strange.push(at),
                    None => {}
                },
            },
        }
    }
    Ok((holdings, strange))
}

fn tell_strange(history: &Run<'_>, key: Option<&Value>, strange: &[usize], findings: &mut Findings) {
    for at in strange {
        let said = told(&history.operations[*at]);
        findings.wrong(format!("A release{} succeeded by who held nothing: {said}.", of_key(key)), vec![*at]);
    }
}

/// Beginnings and ends of holdings, in order: (place, begins, number).
fn moments(holdings: &[Holding]) -> BTreeSet<(u64, bool, usize)> {
    let mut moments = BTreeSet::new();
    for (number, holding) in holdings.iter().enumerate() {
        moments.insert((holding.from, true, number));
        moments.insert((holding.to, false, number));
    }
    moments
}

/// Who holds, told once.
fn holders(history: &Run<'_>, holdings: &[Holding], who: impl Iterator<Item = usize>) -> (Vec<String>, Vec<usize>) {
    let mut lines = Vec::new();
    let mut core = Vec::new();
    for holding in who.map(|number| &holdings[number]) {
        let until =
            holding.release.map_or("never released".into(), |at| format!("until {}", told(&history.operations[at])));
        lines.push(format!("{}, {until}", told(&history.operations[holding.acquire])));
        core.extend([Some(holding.acquire), holding.release].into_iter().flatten());
    }
    (lines, core)
}

fn semaphore(history: &Run<'_>, settings: &Settings) -> Result<Findings, Unfit> {
    let mut findings = Findings::default();
    let (mut granted, mut most) = (0, 0);
    for (key, operations) in by_key(history) {
        let (holdings, strange) = holdings(history, &operations)?;
        tell_strange(history, key, &strange, &mut findings);
        granted += holdings.len();
        let mut holding: BTreeSet<usize> = BTreeSet::new();
        let (mut sum, mut worst) = (0u128, 0);
        for (_, begins, number) in moments(&holdings) {
            if !begins {
                holding.remove(&number);
                sum -= u128::from(holdings[number].permits);
                continue;
            }
            holding.insert(number);
            sum += u128::from(holdings[number].permits);
            if let Some(limit) = settings.permits
                && sum > worst.max(u128::from(limit))
            {
                worst = sum;
                let (lines, core) = holders(history, &holdings, holding.iter().copied());
                let sentence = format!("{sum} permits{} were held at once, of {limit}.", of_key(key));
                findings.wrong_because(sentence, lines, core);
            }
            most = most.max(sum);
        }
    }
    if granted == 0 {
        findings.doubts.push("No permit was ever granted.".into());
    }
    if settings.permits.is_none() {
        let permits = words::count(usize::try_from(most).unwrap_or(usize::MAX), "permit");
        findings.doubts.push(format!(
            "How many permits there are is not known (--permits); up to {permits} were surely held at once."
        ));
    }
    findings.figures.insert("most_held", most as f64);
    findings.figure("grants", granted);
    findings.fine = format!("Never more than {most} permits were held at once, in {}.", words::count(granted, "grant"));
    Ok(findings)
}

/// Pairs of holdings that overlap and must not; each with the one that began later.
fn conflicts(holdings: &[Holding]) -> Vec<(usize, usize)> {
    // process → what it holds
    type Held = BTreeMap<u64, BTreeSet<usize>>;
    let mut found = Vec::new();
    let (mut any, mut exclusive) = (Held::new(), Held::new());
    for (_, begins, number) in moments(holdings) {
        let own = &holdings[number];
        let both = [Some(&mut any), own.exclusive.then_some(&mut exclusive)];
        if !begins {
            for held in both.into_iter().flatten() {
                if let Some(mine) = held.get_mut(&own.process) {
                    mine.remove(&number);
                    if mine.is_empty() {
                        held.remove(&own.process);
                    }
                }
            }
            continue;
        }
        for held in both.into_iter().flatten() {
            held.entry(own.process).or_default().insert(number);
        }
        let against = if own.exclusive { &any } else { &exclusive };
        let others = against.iter().find(|(process, _)| **process != own.process);
        found.extend(others.and_then(|(_, held)| held.first()).map(|other| (*other, number)));
    }
    found
}

fn tell_conflicts(history: &Run<'_>, key: Option<&Value>, holdings: &[Holding], findings: &mut Findings) -> usize {
    let found = conflicts(holdings);
    for (a, b) in &found {
        let (lines, core) = holders(history, holdings, [*a, *b].into_iter());
        let (p, q) = (holdings[*a].process, holdings[*b].process);
        let sentence = format!("Processes {p} and {q} held the lock{} at once, not both shared.", of_key(key));
        findings.wrong_because(sentence, lines, core);
    }
    found.len()
}

fn rw_lock(history: &Run<'_>, _: &Settings) -> Result<Findings, Unfit> {
    let mut findings = Findings::default();
    let (mut reads, mut writes) = (0, 0);
    for (key, operations) in by_key(history) {
        let (holdings, strange) = holdings(history, &operations)?;
        tell_strange(history, key, &strange, &mut findings);
        tell_conflicts(history, key, &holdings, &mut findings);
        writes += holdings.iter().filter(|holding| holding.exclusive).count();
        reads += holdings.iter().filter(|holding| !holding.exclusive).count();
    }
    if reads + writes == 0 {
        findings.doubts.push("No lock was ever granted.".into());
    }
    findings.figure("shared_grants", reads);
    findings.figure("exclusive_grants", writes);
    let (shared, exclusive) = (words::count(reads, "shared grant"), words::count(writes, "exclusive one"));
    findings.fine = format!("{shared} and {exclusive}, never at odds.");
    Ok(findings)
}

fn mutex_fair(history: &Run<'_>, _: &Settings) -> Result<Findings, Unfit> {
    let mut findings = Findings::default();
    let [mut granted, mut bypassed, mut most, mut starved, mut deadlocked] = [0; 5];
    let mut waits = Vec::new();
    for (key, operations) in by_key(history) {
        let (mut holdings, strange) = holdings(history, &operations)?;
        for holding in &mut holdings {
            holding.exclusive = true;
        }
        tell_strange(history, key, &strange, &mut findings);
        tell_conflicts(history, key, &holdings, &mut findings);
        granted += holdings.len();
        let asked = |at: usize| &history.operations[at];
        // Grants in the order in which they were given; a request is bypassed by those that were
        // invoked after it among the grants before its own: a count of larger ones to the left.
        let mut grants: Vec<(u64, u64, usize)> =
            holdings.iter().map(|h| (h.from, asked(h.acquire).invoked.index, h.acquire)).collect();
        grants.sort_unstable();
        let mut places: Vec<u64> = grants.iter().map(|(_, invoked, _)| *invoked).collect();
        places.sort_unstable();
        let mut given = Counts::new(places.len());
        let mut latest: Option<(u64, usize)> = None;
        let mut stories = Vec::new();
        for (before, (_, invoked, at)) in grants.iter().enumerate() {
            let (from, to) = (asked(*at).invoked.time_ns, asked(*at).completed.and_then(|moment| moment.time_ns));
            waits.extend(nanos(from, to));
            let place = places.partition_point(|place| place < invoked);
            let times = before - given.before(place);
            if let (1.., Some((_, by))) = (times, latest) {
                bypassed += 1;
                most = most.max(times);
                stories.push((times, *at, by));
            }
            given.add(place);
            latest = latest.max(Some((*invoked, *at)));
        }
        stories.sort_unstable_by_key(|(n, at, _)| (std::cmp::Reverse(*n), *at));
        for (n, at, by) in stories {
            let lines = vec![format!("among others by {}", told(asked(by)))];
            let (times, said) = (words::count(n, "time"), told(asked(at)));
            findings.wrong_because(
                format!("A request{} was bypassed {times}: {said}.", of_key(key)),
                lines,
                vec![at, by],
            );
        }
        let never = operations
            .iter()
            .copied()
            .filter(|at| acquires(asked(*at)) == Some(true) && asked(*at).completed.is_none());
        let never: Vec<usize> = never.collect();
        let last = grants.iter().map(|(_, invoked, _)| *invoked).max();
        let starving: Vec<usize> =
            never.iter().copied().filter(|at| last.is_some_and(|last| asked(*at).invoked.index < last)).collect();
        starved += starving.len();
        if let Some(first) = starving.first() {
            let n = words::count(starving.len(), "request");
            findings.remarks.push(format!(
                "{n}{} starved: never answered though later ones were granted, such as {}.",
                of_key(key),
                told(asked(*first))
            ));
        }
        let perhaps_held = holdings
            .iter()
            .any(|holding| holding.release.is_none_or(|at| asked(at).outcome != Outcome::Ok))
            || operations.iter().any(|at| {
                let operation = asked(*at);
                acquires(operation) == Some(true) && operation.outcome == Outcome::Info && operation.completed.is_some()
            });
        if !never.is_empty() && !perhaps_held && starving.is_empty() {
            deadlocked += 1;
            let n = words::count(never.len(), "request");
            findings
                .doubts
                .push(format!("Perhaps a deadlock: {n}{} never answered, though nobody else held it.", of_key(key)));
        }
    }
    if granted == 0 {
        findings.doubts.push("No lock was ever granted.".into());
    }
    for (name, value) in [
        ("grants", granted),
        ("bypassed", bypassed),
        ("most_bypasses", most),
        ("starved", starved),
        ("deadlocked", deadlocked),
    ] {
        findings.figure(name, value);
    }
    findings.latencies("wait for the lock", ["wait_p50_ms", "wait_p99_ms", "wait_max_ms"], waits);
    findings.fine = format!("{}, first come first served.", words::count(granted, "grant"));
    Ok(findings)
}
