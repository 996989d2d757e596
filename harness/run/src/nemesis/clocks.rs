//! Faults of clocks: skewed, and what their processes are told meanwhile and how often they ask.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use duress_backend::clocks::{Enough, Watch};
use duress_backend::{ErrorKind, ProcessState};
use duress_fault::{ClockChange, Clocks, Resolved};
use duress_history::{Host, Stage};
use smol_str::{SmolStr, format_smolstr};
use tokio::time::Instant;

use super::{Found, InForce, Nemesis, blocking};
use crate::RunError;
use crate::skews::{self, Hand, Skew};

/// Within this time a process must have asked for a skewed clock, and a strobe have flipped.
const WATCHED: Duration = Duration::from_millis(700);
/// After so long a process that has ended is looked for again.
const AGAIN: Duration = Duration::from_millis(5);
/// Rates are measured over at least this long, in nanoseconds.
const SPAN: i64 = 30_000_000;
/// How far a rate may be from what it should be, in parts per million.
const TOLERATED_PPM: f64 = 50.0;
/// How far an offset may be from what it should be, in nanoseconds.
const TOLERATED: f64 = 1e6;

impl Nemesis {
    /// Skews the clocks of a fault's hosts, in their processes of now and, until it is healed, in
    /// those that are started meanwhile.
    pub(super) async fn skew_clocks(
        self: &Arc<Self>,
        resolved: &Resolved,
        (clocks, change): (Clocks, ClockChange),
        real: bool,
    ) -> Result<(), RunError> {
        for host in &resolved.hosts {
            let (cluster, host) = (self.cluster.clone(), host.clone());
            let skewing = move || {
                let process = cluster.process_id(&host);
                let read = |process| cluster.site.clocks().ok()?.read(&host, process).ok();
                let before = process.and_then(read);
                let mut skew = Skew { clocks, change, before, trouble: None, sabotaged: !real };
                let mut all = cluster.skews.of(&host);
                all.push(skew.clone());
                // Without a process, the next one is skewed when it starts.
                skew.trouble = process.and_then(|process| skews::apply(&*cluster.site, &host, process, &all).err());
                cluster.skews.add(&host, skew);
            };
            blocking(skewing).await?;
        }
        Ok(())
    }

    /// Takes it back.
    pub(super) async fn mend_clocks(
        self: &Arc<Self>,
        resolved: &Resolved,
        (clocks, change): (Clocks, ClockChange),
    ) -> Result<(), RunError> {
        for host in &resolved.hosts {
            let (cluster, name) = (self.cluster.clone(), host.clone());
            let healing = move || {
                let healed = cluster.skews.remove(&name, clocks, change);
                match (cluster.process_id(&name), healed) {
                    (Some(process), Some(skew)) => {
                        skews::heal(&*cluster.site, &name, process, &skew, &cluster.skews.of(&name))
                    }
                    _ => Ok(()),
                }
            };
            if let Err(trouble) = blocking(healing).await? {
                // The measurement that follows tells what became of it.
                tracing::warn!(%host, "clocks not healed: {trouble}");
            }
        }
        Ok(())
    }

    /// What is wrong with clocks that a fault is about to skew.
    pub(super) async fn wrong_clocks(self: &Arc<Self>, resolved: &Resolved, clocks: Clocks) -> Vec<String> {
        let mut found = Found::default();
        for host in &resolved.hosts {
            self.measure_clocks_of(host, clocks, None, &mut found).await;
        }
        found.wrong
    }

    /// What processes are told, against what is claimed.
    pub(super) async fn measure_clocks(
        self: &Arc<Self>,
        in_force: &InForce,
        (clocks, change): (Clocks, ClockChange),
        stage: Stage,
    ) -> Found {
        let mut found = Found::default();
        let changed = (stage == Stage::Start).then_some(change);
        for host in &in_force.resolved.hosts {
            self.measure_clocks_of(host, clocks, changed, &mut found).await;
        }
        found
    }

    /// Measures one host's clocks: with `changed` just after a change, else while nothing happens.
    async fn measure_clocks_of(
        self: &Arc<Self>,
        host: &Host,
        clocks: Clocks,
        changed: Option<ClockChange>,
        found: &mut Found,
    ) {
        let all = self.cluster.skews.of(host);
        let trouble = all.last().and_then(|skew| skew.trouble.clone()).filter(|_| changed.is_some());
        let state = self.cluster.process_state(host);
        if let Some(trouble) = trouble {
            return found.wrong.push(format!("{host}: {trouble}"));
        }
        // One that stands still asks for nothing.
        let asks = changed.is_some() && state != ProcessState::Stopped;
        let hands = Hand::of(clocks);
        let strobes: Vec<Option<i64>> = hands.iter().map(|hand| skews::strobe(&all, *hand)).collect();
        let of = |(hand, strobe): (&Hand, &Option<i64>)| Enough {
            clock: hand.clock(),
            span_ns: SPAN,
            range_ns: strobe.map_or(0, |by| by.abs() / 2),
            reads: u64::from(asks),
        };
        let enough: Vec<Enough> = hands.iter().zip(&strobes).map(of).collect();
        let seen = match self.watched(host, &enough).await {
            Ok(Some(seen)) => seen,
            // There is nothing to heal then.
            Ok(None) if changed.is_none() => return found.seen.push(format!("{host} has no process")),
            Ok(None) => return found.wrong.push(format!("{host} has no process")),
            Err(words) => return found.wrong.push(format!("{host}: {words}")),
        };
        for (hand, strobe) in hands.iter().zip(strobes) {
            let one = Measured { host, hand: *hand, seen: &seen, strobe, ppm: skews::ppm(&all, *hand) };
            let before = all.last().and_then(|skew| skew.before.as_ref()).map(|state| state.of(hand.clock()));
            let (by, before) = match changed {
                Some(ClockChange::Jump(by)) => (by, before),
                Some(_) => (0, before),
                None => (0, None),
            };
            let mut wrong = one.wrong(skews::touched(&all, *hand));
            wrong.extend(before.and_then(|before| one.wrong_jump(by, before.ahead_ns, before.at_ns)));
            if asks && seen.reads(hand.clock()) == 0 {
                wrong.push(format!(
                    "{host} has not asked for its {} clock: it bypasses the vDSO, or has no use for it",
                    hand.name()
                ));
            }
            one.figures(&mut found.figures);
            if wrong.is_empty() { found.seen.push(one.words(asks)) } else { found.wrong.append(&mut wrong) }
        }
    }
}

impl Nemesis {
    /// Watches a host's process until `enough` has been seen. If it ends meanwhile, the next one is
    /// watched, if there is one in time.
    async fn watched(&self, host: &Host, enough: &[Enough]) -> Result<Option<Watch>, String> {
        let deadline = Instant::now() + WATCHED;
        loop {
            if let Some(process) = self.cluster.process_id(host) {
                let (cluster, name, enough) = (self.cluster.clone(), host.clone(), enough.to_vec());
                let watch = move || cluster.site.clocks()?.watch(&name, process, WATCHED, &enough);
                match blocking(watch).await {
                    Ok(Ok(seen)) => return Ok(Some(seen)),
                    Ok(Err(e)) => {
                        let ended = e.kind == ErrorKind::Gone || self.cluster.process_id(host) != Some(process);
                        if !ended && self.cluster.process_state(host) != ProcessState::Gone {
                            return Err(e.to_string());
                        }
                    }
                    Err(e) => return Err(e.to_string()),
                }
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// What was seen of one clock.
struct Measured<'a> {
    host: &'a Host,
    hand: Hand,
    seen: &'a Watch,
    /// By how much it should strobe.
    strobe: Option<i64>,
    /// How fast it should run.
    ppm: f64,
}

impl Measured<'_> {
    /// The clock's name: "the wall clock of n1".
    fn name(&self) -> String {
        format!("the {} clock of {}", self.hand.name(), self.host)
    }

    /// What is wrong with its rate and its flips, and whether it is true if nothing is `touched`.
    fn wrong(&self, touched: bool) -> Vec<String> {
        let clock = self.hand.clock();
        let ((least, most), ppm) = (self.seen.range(clock), self.seen.ppm(clock));
        let mut wrong = Vec::new();
        if !touched && !clock.ascends() && (least, most) != (0, 0) {
            wrong.push(format!("{} is {}, and nothing is in force", self.name(), off(most)));
        }
        match self.strobe {
            Some(by) if ((most - least) as f64 - by.abs() as f64).abs() > self.tolerated() => {
                wrong.push(format!(
                    "{} flips by {}, not by {}",
                    self.name(),
                    milliseconds(most - least),
                    milliseconds(by)
                ));
            }
            // Flips are no rate.
            Some(_) => {}
            None if (ppm - self.ppm).abs() > TOLERATED_PPM => {
                wrong.push(format!("{} {}, but should run {:+.1} ppm fast", self.name(), runs(ppm), self.ppm));
            }
            None => {}
        }
        wrong
    }

    /// What is wrong with where it jumped to, from how far ahead it was at a time.
    fn wrong_jump(&self, by: i64, ahead: i64, at: i64) -> Option<String> {
        let first = self.seen.first.of(self.hand.clock());
        let gained = self.ppm / 1e6 * (first.at_ns - at) as f64;
        let moved = (first.ahead_ns - ahead) as f64;
        // What it had gained between that time and the change, it had gained at another rate.
        let slack = self.tolerated() + gained.abs() + self.strobe.map_or(0.0, |by| by.abs() as f64);
        let off = moved - by as f64;
        (off.abs() > slack).then(|| {
            format!("{} has moved by {}, not by {}", self.name(), milliseconds(moved as i64), milliseconds(by))
        })
    }

    fn tolerated(&self) -> f64 {
        TOLERATED + (self.ppm / 1e6 * self.seen.took(self.hand.clock()) as f64).abs()
    }

    fn words(&self, asks: bool) -> String {
        let clock = self.hand.clock();
        let (ahead, ppm) = (self.seen.last.of(clock).ahead_ns, self.seen.ppm(clock));
        let mut words = match self.strobe {
            Some(_) => {
                let (least, most) = self.seen.range(clock);
                format!("{} flips between {} and {}", self.name(), milliseconds(least), milliseconds(most))
            }
            None if ahead == 0 && ppm == 0.0 => format!("{} is true", self.name()),
            None if ppm == 0.0 => format!("{} is {}", self.name(), off(ahead)),
            None => format!("{} is {} and {}", self.name(), off(ahead), runs(ppm)),
        };
        if asks {
            words.push_str(&format!(
                " (asked {} times in {})",
                self.seen.reads(clock),
                milliseconds(self.seen.took(clock))
            ));
        }
        words
    }

    fn figures(&self, figures: &mut BTreeMap<SmolStr, f64>) {
        let clock = self.hand.clock();
        let mut put = |what: &str, value: f64| {
            figures.insert(format_smolstr!("{}_{}_{what}", self.host, self.hand.name()), value);
        };
        put("ahead_ms", self.seen.last.of(clock).ahead_ns as f64 / 1e6);
        // Flips are no rate.
        if self.strobe.is_none() {
            put("ppm", self.seen.ppm(clock));
        }
        put("reads", self.seen.reads(clock) as f64);
    }
}

/// How far a clock is off, in words.
fn off(ahead: i64) -> String {
    format!("{} {}", milliseconds(ahead.abs()), if ahead < 0 { "behind" } else { "ahead" })
}

/// How a clock runs, in words.
fn runs(ppm: f64) -> String {
    match ppm {
        _ if ppm <= -1e6 + TOLERATED_PPM => "stands still".into(),
        _ if ppm < 0.0 => format!("runs {:.1} ppm slow", -ppm),
        _ => format!("runs {ppm:.1} ppm fast"),
    }
}

fn milliseconds(nanos: i64) -> String {
    format!("{:.3} ms", nanos as f64 / 1e6)
}
