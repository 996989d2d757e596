//! The faults of a schedule, from their time to their heal.

use std::collections::BTreeSet;
use std::time::Duration;

use duress_fault::{Effect, Host, HostHarm, Lookout, Resolved, Timed, Turn};
use duress_history::{Evidence, FaultEvent, Stage};
use duress_seed::Seed;
use smol_str::SmolStr;

use crate::unscheduled::Unscheduled;
use crate::{AGAIN, Found, HeldBack, Order, PATIENCE, Sight, Wake};

/// What is to be conducted.
#[derive(Clone, Debug)]
pub struct Script {
    /// The members of the target.
    pub nodes: Vec<Host>,
    /// The client hosts.
    pub clients: Vec<Host>,
    /// The faults, in the order of their injection.
    pub faults: Vec<Timed>,
    /// The run's.
    pub seed: Seed,
    /// So many nodes, drawn from the seed, are healed first, while all others stay away.
    pub heal_first: Option<usize>,
}

impl Default for Script {
    /// Nothing happens to nobody.
    fn default() -> Script {
        Script { nodes: Vec::new(), clients: Vec::new(), faults: Vec::new(), seed: Seed(0), heal_first: None }
    }
}

/// Conducts the faults of one run; see [the crate](crate). Being told something takes time linear
/// in the number of faults, and none to speak of if no fault waits for it.
#[derive(Debug)]
pub struct Conductor {
    pub(crate) nodes: Vec<Host>,
    clients: Vec<Host>,
    planned: Vec<Planned>,
    seed: Seed,
    heal_first: Option<usize>,
    lookout: Lookout,
    pub(crate) in_force: Vec<InForce>,
    held: Option<(u64, HeldBack)>,
    main: bool,
    pub(crate) unscheduled: Unscheduled,
}

/// A fault of the schedule.
#[derive(Debug)]
struct Planned {
    timed: Timed,
    fate: Fate,
}

/// How far a fault of the schedule has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Its trigger has not fired, or the main phase has not begun.
    Waits,
    /// Its time is known; it is given up when nobody is there to hit until then.
    Comes { until: u64 },
    /// It was applied.
    Applied,
    /// It was given up.
    GivenUp,
}

/// A fault in force, or on its way there or out.
#[derive(Clone, Debug)]
pub struct InForce {
    /// Its number.
    pub number: u64,
    /// What is done to whom.
    pub resolved: Resolved,
    /// When it was undone, if it was.
    pub undone_at: u64,
    step: Step,
    /// How long it stays; `None` of one that stays until it is healed on purpose.
    lasts: Option<u64>,
    /// What was wrong before it was applied.
    before: Vec<String>,
    /// It is to be healed as soon as it is in force.
    unwanted: bool,
    /// Nodes that have yet to start before it is measured that it is healed.
    awaiting: Vec<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Applying,
    /// Applied, and being measured.
    Applied,
    Standing,
    Undoing,
    /// Undone; nodes start, or it is being measured.
    Undone,
    /// Undone, and being measured.
    Measuring,
}

impl InForce {
    /// Whether it has been done and not been undone.
    pub fn is_standing(&self) -> bool {
        (Step::Applied..=Step::Undoing).contains(&self.step)
    }

    /// Whether it holds this host down: killed, stopped, or coming and going.
    fn holds_down(&self, host: &str) -> bool {
        let Effect::Hosts(harm) = self.resolved.effect else { return false };
        let down = harm.takes_down() || matches!(harm, HostHarm::Stop | HostHarm::CrashLoop { .. });
        down && self.step < Step::Undone && self.resolved.hosts.iter().any(|hit| hit == host)
    }

    fn event(&self, stage: Stage) -> Order {
        Order::Fault(FaultEvent {
            fault: self.number,
            stage,
            kind: SmolStr::new_static(self.resolved.kind),
            what: self.resolved.what.clone(),
            hosts: self.resolved.hosts.clone(),
            links: self.resolved.links.iter().cloned().collect(),
        })
    }
}

/// What is in force, by and large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Faults are in force, or being applied or healed.
    Faults,
    /// Nothing but what holds back the nodes that are not healed first.
    Rest,
    /// Nothing.
    Nothing,
}

impl Default for Conductor {
    /// One that has nothing to conduct.
    fn default() -> Conductor {
        Conductor::new(Script::default())
    }
}

impl Conductor {
    /// A conductor for one run.
    pub fn new(script: Script) -> Conductor {
        let Script { nodes, clients, faults, seed, heal_first } = script;
        Conductor {
            lookout: Lookout::over(&faults),
            planned: faults.into_iter().map(|timed| Planned { timed, fate: Fate::Waits }).collect(),
            unscheduled: Unscheduled::new(nodes.len()),
            nodes,
            clients,
            seed,
            heal_first,
            in_force: Vec::new(),
            held: None,
            main: false,
        }
    }

    /// The main phase begins: the schedule's times are counted from now.
    pub fn begin(&mut self, now: u64) -> Vec<Order> {
        self.main = true;
        self.lookout.begin();
        let untriggered = (0..self.planned.len()).filter(|place| self.planned[*place].timed.when.is_none());
        untriggered.collect::<Vec<_>>().into_iter().flat_map(|place| self.comes(place, now)).collect()
    }

    /// A node says what it is.
    pub fn role(&mut self, node: usize, role: &str, leads: bool, term: u64, now: u64) -> Vec<Order> {
        self.sees(now, |lookout, nodes| lookout.role(&nodes[node], role, leads, term))
    }

    /// A node has no process any more.
    pub fn down(&mut self, node: usize, now: u64) -> Vec<Order> {
        self.sees(now, |lookout, nodes| lookout.down(&nodes[node]))
    }

    /// An operation has ended.
    pub fn operation(&mut self, now: u64) -> Vec<Order> {
        self.sees(now, |lookout, _| lookout.operation())
    }

    fn sees(&mut self, now: u64, what: impl FnOnce(&mut Lookout, &[Host]) -> Vec<u64>) -> Vec<Order> {
        if self.lookout.is_idle() {
            return Vec::new();
        }
        let fired = what(&mut self.lookout, &self.nodes);
        let places: Vec<usize> = fired.into_iter().filter_map(|number| self.place(number)).collect();
        places.into_iter().flat_map(|place| self.comes(place, now)).collect()
    }

    fn turns(&mut self, number: u64, turn: Turn, now: u64) -> Vec<Order> {
        self.sees(now, |lookout, _| lookout.fault(number, turn))
    }

    fn place(&self, number: u64) -> Option<usize> {
        self.planned.iter().position(|planned| planned.timed.number == number)
    }

    /// A fault is to be injected so long after this moment, or as soon after as there is whom to hit.
    fn comes(&mut self, place: usize, since: u64) -> Option<Order> {
        let Planned { timed, fate } = &mut self.planned[place];
        if *fate != Fate::Waits {
            return None;
        }
        let at = since.saturating_add(nanos(timed.at));
        *fate = Fate::Comes { until: at.saturating_add(nanos(timed.lasts.max(PATIENCE))) };
        // After the main phase it is of use to know that its trigger had fired, but no more.
        self.main.then_some(Order::Wait { at, wake: Wake::Comes { number: timed.number } })
    }

    /// It is time for something that was waited for.
    pub fn wake(&mut self, wake: Wake) -> Vec<Order> {
        match wake {
            Wake::Comes { number } if self.coming(number).is_some() => vec![Order::Look { number }],
            Wake::Comes { .. } => Vec::new(),
            Wake::Ends { number } => self.heal(number),
            Wake::Strikes { number, node } => match self.strikes(number) {
                Some(_) => vec![Order::Strike { number, node }],
                None => Vec::new(),
            },
            Wake::Operator => self.operator(),
        }
    }

    /// The place of a fault that is to be injected, and when it is given up.
    fn coming(&self, number: u64) -> Option<(usize, u64)> {
        let place = self.place(number)?;
        match self.planned[place].fate {
            Fate::Comes { until } if self.main => Some((place, until)),
            _ => None,
        }
    }

    /// This is seen of the cluster at the moment at which a fault is to be injected.
    pub fn choose(&mut self, number: u64, sight: &Sight, now: u64) -> Vec<Order> {
        let Some((place, until)) = self.coming(number) else { return Vec::new() };
        let hosts = self.nodes.iter().chain(&self.clients);
        let held = hosts.filter(|host| self.in_force.iter().any(|one| one.holds_down(host)));
        let down: BTreeSet<Host> = held.cloned().collect();
        let view = sight.view(&self.nodes, &self.clients, down);
        let timed = &self.planned[place].timed;
        match timed.fault.resolve(&view, self.seed.derive("nemesis"), number) {
            Ok(resolved) => {
                let lasts = Some(nanos(timed.lasts));
                self.planned[place].fate = Fate::Applied;
                vec![self.apply(number, resolved, lasts)]
            }
            // A primary or a holder may be there in a moment.
            Err(why) if why.may_pass() && now < until => {
                vec![Order::Wait { at: now.saturating_add(nanos(AGAIN)), wake: Wake::Comes { number } }]
            }
            Err(why) => self.give_up(place, &why.to_string(), now),
        }
    }

    fn apply(&mut self, number: u64, resolved: Resolved, lasts: Option<u64>) -> Order {
        self.in_force.push(InForce {
            number,
            resolved: resolved.clone(),
            undone_at: 0,
            step: Step::Applying,
            lasts,
            before: Vec::new(),
            unwanted: false,
            awaiting: Vec::new(),
        });
        Order::Apply { number, resolved }
    }

    /// A fault that can't be injected is on record as not proven.
    fn give_up(&mut self, place: usize, why: &str, now: u64) -> Vec<Order> {
        let Planned { timed, fate } = &mut self.planned[place];
        *fate = Fate::GivenUp;
        let (fault, kind) = (timed.number, timed.fault.kind().name());
        let what = format!("{kind}: not injected: {why}");
        let mut orders = Vec::new();
        for (stage, turn) in [(Stage::Start, Turn::Starts), (Stage::End, Turn::Ends)] {
            orders.extend(self.turns(fault, turn, now));
            let (what, hosts, links) = (what.clone(), Vec::new(), Vec::new());
            orders.push(Order::Fault(FaultEvent { fault, stage, kind: kind.into(), what, hosts, links }));
        }
        let measured = Default::default();
        orders.push(Order::Evidence(Evidence { fault, stage: Stage::Start, proven: false, what, measured }));
        orders.push(Order::GaveUp { kind });
        orders
    }

    /// The world can't do what was ordered, and has done nothing.
    pub fn refused(&mut self, number: u64, why: &str, now: u64) -> Vec<Order> {
        self.in_force.retain(|one| one.number != number || one.step != Step::Applying);
        match self.place(number) {
            Some(place) => self.give_up(place, why, now),
            None => Vec::new(),
        }
    }

    /// A fault was applied; `before` is what was not as it should be with those whom it hits.
    pub fn applied(&mut self, number: u64, before: Vec<String>, now: u64) -> Vec<Order> {
        let Some(one) = self.at(number, Step::Applying) else { return Vec::new() };
        one.before = before;
        one.step = Step::Applied;
        let event = one.event(Stage::Start);
        let mut orders = self.turns(number, Turn::Starts, now);
        orders.extend([event, Order::Measure { number, stage: Stage::Start }]);
        orders
    }

    /// A fault was measured.
    pub fn measured(&mut self, number: u64, stage: Stage, found: Found, now: u64) -> Vec<Order> {
        let (step, words) = (if stage == Stage::Start { Step::Applied } else { Step::Measuring }, found.words());
        let Some(one) = self.at(number, step) else { return Vec::new() };
        let (proven, what) = match (stage, &one.before[..]) {
            (Stage::End, _) => (found.holds(), words),
            (Stage::Start, []) => (found.holds(), format!("before: as it should be; {words}")),
            (Stage::Start, before) => (false, format!("before: {}; {words}", before.join(", "))),
        };
        let evidence = Evidence { fault: number, stage, proven, what, measured: found.figures };
        let mut orders = vec![Order::Evidence(evidence)];
        if stage == Stage::Start {
            one.step = Step::Standing;
            let wait = |lasts| Order::Wait { at: now.saturating_add(lasts), wake: Wake::Ends { number } };
            let (unwanted, wait) = (one.unwanted, one.lasts.map(wait));
            if unwanted { orders.extend(self.heal(number)) } else { orders.extend(wait) }
        } else {
            self.in_force.retain(|one| one.number != number);
            // The operator comes by and repairs what the cluster itself shut off.
            orders.extend(self.operator());
        }
        orders
    }

    /// The fault with this number, if it has come so far.
    fn at(&mut self, number: u64, step: Step) -> Option<&mut InForce> {
        self.in_force.iter_mut().find(|one| one.number == number && one.step == step)
    }

    /// Heals a fault. One that is being applied is healed as soon as it is in force, for what has
    /// not been measured can't be proven.
    fn heal(&mut self, number: u64) -> Vec<Order> {
        let Some(one) = self.in_force.iter_mut().find(|one| one.number == number) else { return Vec::new() };
        match one.step {
            Step::Applying | Step::Applied => one.unwanted = true,
            Step::Standing => {
                one.step = Step::Undoing;
                return vec![Order::Undo { number }];
            }
            Step::Undoing | Step::Undone | Step::Measuring => {}
        }
        Vec::new()
    }

    /// A fault was undone, and these nodes have been told to start: only when each of them
    /// [has](Self::settled) is the heal measured.
    pub fn undone(&mut self, number: u64, awaiting: Vec<usize>, now: u64) -> Vec<Order> {
        let Some(one) = self.at(number, Step::Undoing) else { return Vec::new() };
        one.step = Step::Undone;
        one.undone_at = now;
        one.awaiting = awaiting;
        let event = one.event(Stage::End);
        let mut orders = self.turns(number, Turn::Ends, now);
        orders.push(event);
        orders.extend(self.all_back());
        orders
    }

    /// A node has started, or will not for now: faults whose heal waited for it go on.
    pub fn settled(&mut self, node: usize) -> Vec<Order> {
        self.in_force.iter_mut().for_each(|one| one.awaiting.retain(|awaited| *awaited != node));
        self.all_back()
    }

    fn all_back(&mut self) -> Vec<Order> {
        let mut orders = Vec::new();
        for one in &mut self.in_force {
            if one.step == Step::Undone && one.awaiting.is_empty() {
                one.step = Step::Measuring;
                orders.push(Order::Measure { number: one.number, stage: Stage::End });
            }
        }
        orders
    }

    /// How often a fault strikes, if it does so again and again and is in force.
    fn strikes(&self, number: u64) -> Option<Duration> {
        let one = self.in_force.iter().find(|one| one.number == number && one.step < Step::Undoing)?;
        match one.resolved.effect {
            Effect::Hosts(HostHarm::CrashLoop { every }) => Some(every),
            _ => None,
        }
    }

    /// A fault that strikes again and again has struck a node.
    pub fn struck(&mut self, number: u64, node: usize, now: u64) -> Vec<Order> {
        let wait = |every| Order::Wait { at: now.saturating_add(nanos(every)), wake: Wake::Strikes { number, node } };
        self.strikes(number).map(wait).into_iter().collect()
    }

    /// The main phase is over: nothing is injected any more, and faults that still wait are on
    /// record as not injected. Those that belong to times that the run never reached are not.
    /// With `hold`, the nodes that are not healed first are kept away: before anything is
    /// [healed](Self::heal_all), so that they are never there in between.
    pub fn main_over(&mut self, hold: bool, now: u64) -> Vec<Order> {
        if !std::mem::take(&mut self.main) {
            return Vec::new();
        }
        let mut orders = Vec::new();
        for place in 0..self.planned.len() {
            let Planned { timed, fate } = &self.planned[place];
            let Some(trigger) = &timed.when else { continue };
            let why = match fate {
                Fate::Waits => format!("it waited in vain for its trigger ({trigger})"),
                Fate::Comes { .. } => "the main phase was over before its time came".into(),
                Fate::Applied | Fate::GivenUp => continue,
            };
            orders.extend(self.give_up(place, &why, now));
        }
        self.lookout = Lookout::default();
        let first = self.heal_first.filter(|_| hold);
        let held = first.and_then(|first| HeldBack::draw(&self.nodes, &self.clients, first, self.seed.derive("heal")));
        if let Some(held) = held {
            let number = self.unscheduled.next();
            orders.push(self.apply(number, held.fault.clone(), None));
            self.held = Some((number, held));
        }
        orders
    }

    /// Heals everything but what holds nodes back.
    pub fn heal_all(&mut self) -> Vec<Order> {
        let numbers: Vec<u64> = self.planned.iter().map(|planned| planned.timed.number).collect();
        numbers.into_iter().flat_map(|number| self.heal(number)).collect()
    }

    /// Only those are healed who are healed first, and they must serve: somebody comes by and starts
    /// those among them that the cluster itself shut off.
    pub fn quorum(&self) -> Vec<Order> {
        let healed = self.held.iter().flat_map(|(_, held)| &held.healed);
        let nodes = healed.filter_map(|name| self.nodes.iter().position(|node| node == name));
        nodes.filter(|node| self.unscheduled.is_down(*node)).map(|node| Order::Start { node }).collect()
    }

    /// The rest is healed as well.
    pub fn end_hold(&mut self) -> Vec<Order> {
        match self.held.take() {
            Some((number, _)) => self.heal(number),
            None => Vec::new(),
        }
    }

    /// Who is healed first and who is held back, from the end of the main phase until
    /// [all are healed](Self::end_hold).
    pub fn held(&self) -> Option<&HeldBack> {
        self.held.as_ref().map(|(_, held)| held)
    }

    /// What is in force.
    pub fn standing(&self) -> Standing {
        let held = self.held.as_ref().map(|(number, _)| *number);
        match &self.in_force[..] {
            [] => Standing::Nothing,
            [one] if Some(one.number) == held && one.step == Step::Standing => Standing::Rest,
            _ => Standing::Faults,
        }
    }

    /// The faults in force, and those that are being applied or healed, in the order in which they
    /// were ordered.
    pub fn in_force(&self) -> &[InForce] {
        &self.in_force
    }

    /// The one with this number.
    pub fn fault(&self, number: u64) -> Option<&InForce> {
        self.in_force.iter().find(|one| one.number == number)
    }
}

/// A time in nanoseconds. What is more than a run can last is for ever.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX >> 2)
}
