//! Faults of links: the rules that they amount to, and probes that show them.
//!
//! Three things are looked at. Small probes over all links tell those that are cut from those that
//! are open, and how long a frame takes. Volleys of numbered datagrams over a fault's own links show
//! what becomes of many ([`evidence`]). TCP connections made before show that they are reset. What
//! another fault hides (nothing is lost on a link that is cut) can't be
//! measured; then it must be the word of whoever carries the frames that the rule is there.

mod evidence;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use duress_backend::links::{Connection, Counters, Link, Links, Probed, Rule, Shots, Volley};
use duress_fault::{LinkHarm, Resolved};
use duress_history::Stage;

use super::{Found, InForce, Nemesis, blocking};
use crate::RunError;
use evidence::{SILENCE, harmed, is_hidden, judge, passes_probes, quickest, rule_of, shots, slowest};

/// How often a measurement that contradicts the claim is repeated before it is believed: on a
/// busy machine a probe may be late.
const ATTEMPTS: usize = 4;
/// So many links get volleys or connections; of more, as many evenly spread ones.
const LOOKED_AT: usize = 24;

/// What is in force on links.
#[derive(Default)]
pub(super) struct Force {
    harms: BTreeMap<Link, Vec<LinkHarm>>,
    /// Made before connections are reset, to see it happen.
    connections: Mutex<Vec<Box<dyn Connection>>>,
}

impl Force {
    /// What the link should be doing.
    fn rule(&self, link: &Link) -> Rule {
        let harms = self.harms.get(link).into_iter().flatten();
        harms.map(rule_of).fold(Rule::OPEN, Rule::and)
    }

    fn rules(&self) -> BTreeMap<Link, Rule> {
        self.harms.keys().map(|link| (link.clone(), self.rule(link))).collect()
    }

    fn release(&mut self, link: &Link, harm: LinkHarm) {
        if let Some(harms) = self.harms.get_mut(link) {
            if let Some(at) = harms.iter().position(|other| *other == harm) {
                harms.swap_remove(at);
            }
            if harms.is_empty() {
                self.harms.remove(link);
            }
        }
    }
}

impl Nemesis {
    pub(super) async fn harm_links(
        self: &Arc<Self>,
        resolved: &Resolved,
        harm: LinkHarm,
        force: &mut super::Force,
        real: bool,
    ) -> Result<(), RunError> {
        if harm == LinkHarm::Reset {
            let usable = |link: &&Link| {
                let rule = force.links.rule(link);
                !rule.reset && !is_hidden(&harm, &rule)
            };
            let links = spread(resolved.links.iter().filter(usable).collect());
            let connections = self.connect(links).await?.into_iter().flatten().collect();
            *force.links.connections.lock().unwrap_or_else(PoisonError::into_inner) = connections;
        }
        for link in &resolved.links {
            force.links.harms.entry(link.clone()).or_default().push(harm);
        }
        if real { self.set_rules(&force.links, &resolved.links) } else { Ok(()) }
    }

    pub(super) fn mend_links(
        &self,
        resolved: &Resolved,
        harm: LinkHarm,
        force: &mut super::Force,
    ) -> Result<(), RunError> {
        for link in &resolved.links {
            force.links.release(link, harm);
        }
        self.set_rules(&force.links, &resolved.links)
    }

    fn links(&self) -> Result<&dyn Links, RunError> {
        Ok(self.cluster.site.links().map_err(duress_backend::Error::from)?)
    }

    /// Makes links do what is in force on them, all at the same moment.
    fn set_rules(&self, force: &Force, changed: &BTreeSet<Link>) -> Result<(), RunError> {
        let rules: Vec<_> = changed.iter().map(|link| (link.clone(), force.rule(link))).collect();
        Ok(self.links()?.set(&rules)?)
    }

    /// What the site says of a link.
    fn look(&self, link: &Link) -> Option<(Rule, Counters)> {
        self.links().ok()?.look(std::slice::from_ref(link)).ok()?.pop()
    }

    /// Frames of a fault's links so far that were harmed in its way; none for a fault of hosts.
    pub(super) fn harmed_frames(&self, resolved: &Resolved) -> u64 {
        let duress_fault::Effect::Links(harm) = resolved.effect else { return 0 };
        let counted = |link| self.look(link).map_or(0, |(_, counters)| harmed(&harm, &counters));
        resolved.links.iter().map(counted).sum()
    }

    /// What is wrong with any link.
    pub(super) async fn wrong_links(self: &Arc<Self>, force: &super::Force) -> Result<Vec<String>, RunError> {
        Ok(self.probe(&force.links).await?.wrong)
    }

    /// What is wrong with the links of a fault that is to be applied, or has been healed: those that
    /// nothing else harms must carry every datagram once, whole and in order.
    pub(super) async fn wrong_volley(
        self: &Arc<Self>,
        resolved: &Resolved,
        force: &super::Force,
    ) -> Result<Vec<String>, RunError> {
        let links = open_links(resolved, &force.links);
        let shots = vec![Shots { count: 10, size: 1400, every: Duration::ZERO, wait: SILENCE }];
        let mut wrong = Vec::new();
        for _ in 0..ATTEMPTS {
            let volleys = self.fire(links.clone(), shots.clone()).await?;
            let harmed = |v: &Volley| v.arrived() < v.sent || v.copies + v.damaged + v.overtaken > 0;
            wrong = links
                .iter()
                .zip(volleys.first().into_iter().flatten())
                .filter(|(_, volley)| harmed(volley))
                .map(|((from, to), volley)| {
                    let (arrived, sent) = (volley.arrived(), volley.sent);
                    format!("of {sent} datagrams over the open link {from} -> {to} {arrived} arrived, {} of them twice, {} damaged and {} out of order", volley.copies, volley.damaged, volley.overtaken)
                })
                .collect();
            if wrong.is_empty() {
                break;
            }
        }
        Ok(wrong)
    }

    /// Measures what a stage of a fault claims of its links.
    pub(super) async fn measure_links(
        self: &Arc<Self>,
        in_force: &InForce,
        harm: LinkHarm,
        force: &super::Force,
        stage: Stage,
    ) -> Result<Found, RunError> {
        let resolved = &in_force.resolved;
        let probed = self.probe(&force.links).await?;
        let mut found = Found { wrong: probed.wrong, ..Found::default() };
        for (name, figure) in [
            ("links", resolved.links.len() as f64),
            ("probes_arrived", probed.arrived as f64),
            ("probes_silent", probed.silent as f64),
        ] {
            found.figures.insert(name.into(), figure);
        }
        let harmed = |nemesis: &Nemesis| nemesis.harmed_frames(resolved).saturating_sub(in_force.harmed_before);
        let word = if harm == LinkHarm::Cut { "dropped" } else { "harmed" };
        match stage {
            Stage::Start => {
                let (silent, arrived) = (probed.silent, probed.arrived);
                found.seen.push(format!("probes: {silent} links silent, {arrived} open, all as claimed"));
                let counts = match harm {
                    LinkHarm::Cut => true,
                    LinkHarm::Reset => self.see_resets(resolved, &force.links, &mut found).await?,
                    _ => self.see_volleys(resolved, harm, &force.links, &mut found).await?,
                };
                if counts && harmed(self) == 0 {
                    found.wrong.push(format!("no frame was {word} on the links that are hit"));
                }
            }
            Stage::End => {
                found.seen.push("probes: the links carry frames again".into());
                match harm {
                    LinkHarm::Cut => {}
                    LinkHarm::Reset => {
                        let made = self.connect(open_links(resolved, &force.links)).await?;
                        found
                            .wrong
                            .extend(made.into_iter().filter_map(|made| {
                                made.and_then(|made| made.carry().map_err(|e| e.to_string())).err()
                            }));
                    }
                    _ => found.wrong.extend(self.wrong_volley(resolved, force).await?),
                }
            }
        }
        let harmed = harmed(self);
        found.figures.insert(format!("frames_{word}").into(), harmed as f64);
        found.seen.push(format!("{harmed} frames were {word}"));
        Ok(found)
    }

    /// What is wrong with the rules that the fabric has for a fault's links.
    fn wrong_rules(&self, resolved: &Resolved, force: &Force) -> Vec<String> {
        let is_set = |link: &Link| self.look(link).is_some_and(|(rule, _)| rule == force.rule(link));
        let unset = resolved.links.iter().filter(|link| !is_set(link));
        unset.map(|(from, to)| format!("the fabric has another rule for the link {from} -> {to}")).collect()
    }

    /// Sees the connections reset that were made before. False if there were none, because other
    /// faults keep connections from being made.
    async fn see_resets(
        self: &Arc<Self>,
        resolved: &Resolved,
        force: &Force,
        found: &mut Found,
    ) -> Result<bool, RunError> {
        found.wrong.extend(self.wrong_rules(resolved, force));
        let connections = std::mem::take(&mut *force.connections.lock().unwrap_or_else(PoisonError::into_inner));
        let count = connections.len();
        if count == 0 {
            found.seen.push(format!("{} links have the rule, which other faults hide", resolved.links.len()));
            return Ok(false);
        }
        let reset = |all: Vec<Box<dyn Connection>>| {
            all.into_iter().filter_map(|one| one.see_reset().err().map(|e| e.to_string())).collect::<Vec<_>>()
        };
        found.wrong.extend(blocking(move || reset(connections)).await?);
        found.figures.insert("connections_reset".into(), count as f64);
        found.seen.push(format!("{count} connections were reset at both ends"));
        Ok(true)
    }

    /// Shows a harm by volleys over the fault's links, or by the fabric's word if others hide it.
    /// True if frames must have been harmed by then.
    async fn see_volleys(
        self: &Arc<Self>,
        resolved: &Resolved,
        harm: LinkHarm,
        force: &Force,
        found: &mut Found,
    ) -> Result<bool, RunError> {
        found.wrong.extend(self.wrong_rules(resolved, force));
        let (hidden, seen): (Vec<&Link>, Vec<&Link>) =
            resolved.links.iter().partition(|link| is_hidden(&harm, &force.rule(link)));
        if seen.is_empty() {
            found.seen.push(format!("{} links have the rule, which other faults hide", hidden.len()));
            return Ok(false);
        }
        let links = spread(seen);
        let rules: Vec<Rule> = links.iter().map(|link| force.rule(link)).collect();
        let patience = rules.iter().map(slowest).max().unwrap_or_default();
        let shots = shots(&harm, links.len(), patience);
        if shots.is_empty() {
            return Ok(false);
        }
        let mut wrong = String::new();
        for _ in 0..ATTEMPTS {
            let volleys = self.fire(links.clone(), shots.clone()).await?;
            let (good, words, figures) = judge(&harm, &rules, &shots, &volleys);
            found.figures.extend(figures.into_iter().map(|(name, figure)| (name.into(), figure)));
            if good {
                found.seen.push(words);
                return Ok(true);
            }
            wrong = words;
        }
        found.wrong.push(format!("{wrong}, which doesn't fit a {harm}"));
        Ok(true)
    }

    /// Sends volleys over links, one after the other.
    async fn fire(self: &Arc<Self>, links: Vec<Link>, shots: Vec<Shots>) -> Result<Vec<Vec<Volley>>, RunError> {
        let nemesis = self.clone();
        blocking(move || {
            let site = nemesis.links()?;
            shots.iter().map(|shots| Ok(site.volley(&links, shots)?)).collect()
        })
        .await?
    }

    /// Makes a connection over each of these links.
    async fn connect(self: &Arc<Self>, links: Vec<Link>) -> Result<Vec<Result<Box<dyn Connection>, String>>, RunError> {
        let nemesis = self.clone();
        let connect = move || {
            let site = nemesis.links()?;
            Ok(links.iter().map(|link| site.connect(link).map_err(|e| e.to_string())).collect())
        };
        blocking(connect).await?
    }

    /// Probes every link against what is in force.
    async fn probe(self: &Arc<Self>, force: &Force) -> Result<LinksMeasured, RunError> {
        let mut measured = LinksMeasured::default();
        let rules = Arc::new(force.rules());
        for _ in 0..ATTEMPTS {
            let (nemesis, rules) = (self.clone(), rules.clone());
            measured = blocking(move || nemesis.probe_links(&rules)).await??;
            if measured.wrong.is_empty() {
                break;
            }
        }
        Ok(measured)
    }

    fn probe_links(&self, rules: &BTreeMap<Link, Rule>) -> Result<LinksMeasured, RunError> {
        let longest = rules.values().map(slowest).max().unwrap_or_default();
        let mut measured = LinksMeasured::default();
        for Probed { link, latency } in self.links()?.probe(SILENCE + longest)? {
            let reached = latency.is_some();
            *(if reached { &mut measured.arrived } else { &mut measured.silent }) += 1;
            let rule = rules.get(&link).copied().unwrap_or(Rule::OPEN);
            let (a, b) = link;
            if passes_probes(&rule).is_some_and(|expected| expected != reached) {
                let claim = if reached { "carries frames though it is cut" } else { "is silent though it is open" };
                measured.wrong.push(format!("link {a} -> {b} {claim}"));
            }
            if let Some(latency) = latency
                && latency < quickest(&rule)
            {
                let delay = quickest(&rule);
                measured.wrong.push(format!("link {a} -> {b} takes {latency:?}, less than its delay of {delay:?}"));
            }
        }
        Ok(measured)
    }
}

/// Links of a fault that nothing harms at the moment, at most [`LOOKED_AT`] of them.
fn open_links(resolved: &Resolved, force: &Force) -> Vec<Link> {
    spread(resolved.links.iter().filter(|link| force.rule(link).is_open()).collect())
}

/// At most [`LOOKED_AT`] of these links, evenly spread.
fn spread(links: Vec<&Link>) -> Vec<Link> {
    let step = links.len().div_ceil(LOOKED_AT).max(1);
    links.into_iter().step_by(step).cloned().collect()
}

/// What probes said of all links.
#[derive(Default)]
struct LinksMeasured {
    arrived: usize,
    silent: usize,
    wrong: Vec<String>,
}
