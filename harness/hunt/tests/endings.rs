//! Runs that end badly: a node's code panics, nobody ever answers, nodes don't answer any more.
//! Each is found, shrunk and counted; a harness that fails is no finding.

use std::sync::atomic::Ordering;
use std::time::Duration;

use duress_checkers::Judge;
use duress_history::{Function, Op, Outcome, Process, Value};
use duress_hunt::{Case, Hunted, Options, Progress, Property, Simulator, Step, hunt, shrink};
use duress_machine::client::{self, Answer, Disposition, Policy};
use duress_machine::{Effects, Input, Machine, NodeId, Observation, Reading, Role, Status};
use duress_plug::Plugs;
use duress_scenario::Scenario;
use duress_sim::{Done, Service, SimRun, Typed, World};
use duress_workloads::{FinalOp, Generator, Next, Slot};

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Flaw {
    None,
    /// Panics at the request with this number.
    Panics(u32),
    /// Never answers.
    Silent,
    /// Answers so many requests, and then no more.
    Deaf(u32),
    /// The harness itself fails.
    Harness,
}

/// A node that answers every request, to a point.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Toy {
    flaw: Flaw,
    me: NodeId,
    asked: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
struct Done1;

impl Answer for Done1 {
    fn disposition(&self) -> Disposition {
        Disposition::Ok
    }
}

impl Machine for Toy {
    type Config = Flaw;
    type Message = ();
    type Record = ();
    type Timer = ();
    type Request = ();
    type Response = Done1;

    fn new(flaw: &Flaw, me: NodeId) -> Toy {
        Toy { flaw: *flaw, me, asked: 0 }
    }

    fn step(&mut self, input: Input<Toy>, now: Reading, effects: &mut Effects<Toy>) {
        match input {
            Input::Started { .. } => effects.observe(Observation::Status(self.status(now))),
            Input::Request { id, .. } => {
                self.asked += 1;
                match self.flaw {
                    Flaw::Panics(at) => assert!(self.asked < at, "request {at} is too much"),
                    Flaw::Silent => return,
                    Flaw::Deaf(after) if self.asked > after && self.me == NodeId(1) => return,
                    _ => {}
                }
                effects.respond(id, Done1);
            }
            _ => {}
        }
    }

    fn status(&self, _: Reading) -> Status {
        Status { role: Role::Replica, term: 0, leader: None, commit_index: 0, digest: 0 }
    }
}

#[derive(Clone)]
struct Clients;

impl Service<Toy> for Clients {
    fn request(&self, _: Process, _: u64, _: &Op) -> Option<()> {
        Some(())
    }

    fn completion(&self, _: &Op, outcome: client::Outcome<Done1>) -> Done {
        let outcome = match outcome {
            client::Outcome::Ok { .. } => Outcome::Ok,
            client::Outcome::Failed { .. } => Outcome::Fail,
            client::Outcome::Unknown { .. } => Outcome::Info,
        };
        let error = (outcome != Outcome::Ok).then(|| "timeout".into());
        Done { outcome, result: Value::Nil, error, node: None, term: None }
    }

    fn policy(&self) -> Policy {
        Policy {
            timeout: Duration::from_millis(500),
            attempt_timeout: Duration::from_millis(200),
            max_attempts: 5,
            backoff: Duration::from_millis(20),
            exactly_once: true,
            roam: false,
        }
    }

    fn sticky(&self) -> bool {
        false
    }

    fn has_log(&self) -> bool {
        false
    }
}

/// One write after the other.
struct Writes {
    left: u32,
    harness: bool,
}

impl Generator for Writes {
    fn next(&mut self, _: Slot, _: Duration) -> Next {
        assert!(!self.harness, "the harness is out of order");
        let Some(left) = self.left.checked_sub(1) else { return Next::Done };
        self.left = left;
        Next::Op(Op::on(Function::Write, "x", i64::from(left)))
    }

    fn completed(&mut self, _: Slot, _: &duress_history::Completion, _: Duration) {}

    fn finale(&self) -> Vec<FinalOp> {
        Vec::new()
    }
}

struct Toys {
    world: World,
    fleet: Typed<Toy, Clients>,
    flaw: Flaw,
}

impl Simulator for Toys {
    fn simulate(&mut self, case: &Case) -> SimRun {
        let plan = case.plan(Duration::from_millis(500));
        let writes = Writes { left: 20, harness: self.flaw == Flaw::Harness };
        let mut generator = duress_hunt::Selected::new(writes, &case.operations, plan.concurrency);
        self.world.run(&mut self.fleet, &plan, &mut generator)
    }

    fn traced(&mut self, case: &Case, _: &mut dyn FnMut(Step)) -> SimRun {
        self.simulate(case)
    }

    fn recycle(&mut self, run: SimRun) {
        self.world.recycle(run);
    }

    fn checkers(&self, _: &Scenario) -> Vec<Box<dyn Judge>> {
        Vec::new()
    }
}

fn scenario() -> Scenario {
    let text = "target: {kind: quorum, nodes: 3}\nworkload: {kind: register, concurrency: 3}\ntime: 2s\nseed: 1\n";
    let plugs = Plugs { targets: duress_kv::kit::TARGETS, workloads: duress_workloads::plugs() };
    Scenario::parse(text, "toy", &[], &plugs).unwrap()
}

fn hunted(flaw: Flaw, runs: u64) -> Hunted {
    let make =
        || -> Box<dyn Simulator> { Box::new(Toys { world: World::new(), fleet: Typed::new(flaw, Clients), flaw }) };
    let options = Options { runs: Some(runs), time: None, jobs: 2, keep_going: true, base: 1, extras: Vec::new() };
    let progress = Progress::default();
    let hunted = hunt(&scenario(), &options, &make, &progress).unwrap();
    assert_eq!(progress.runs.load(Ordering::Relaxed), hunted.runs);
    for (property, found) in &hunted.findings {
        let case = duress_hunt::case(&scenario(), &options, found.seed);
        let shrunk = shrink(&case, property, &make, 2, Duration::from_secs(20)).expect("it shows again");
        assert!(shrunk.complete, "it did not end by itself");
        assert!(
            shrunk.after.faults == 0 && shrunk.after.operations <= 2 && shrunk.after.chance == 0,
            "{:?}",
            shrunk.after
        );
        assert_eq!(shrunk.violation.property, *property);
    }
    hunted
}

#[test]
fn a_sound_target_is_clean() {
    let hunted = hunted(Flaw::None, 30);
    assert_eq!((hunted.runs, hunted.clean(), hunted.findings.len()), (30, 30, 0));
}

#[test]
fn a_panic_names_its_node_and_says_why() {
    let hunted = hunted(Flaw::Panics(3), 10);
    let found = &hunted.findings[&Property::Panic];
    assert_eq!(found.count, 10);
    let summary = &found.violation.summary;
    assert!(summary.starts_with('n') && summary.ends_with(" panicked: request 3 is too much"), "{summary}");
    assert_eq!(hunted.broken, None);
}

#[test]
fn a_target_that_never_serves_is_unavailable() {
    let hunted = hunted(Flaw::Silent, 5);
    let found = &hunted.findings[&Property::Unavailable];
    assert!(found.violation.summary.starts_with("No client got an answer"), "{}", found.violation.summary);
}

#[test]
fn a_target_that_stops_serving_is_unavailable_and_named() {
    let hunted = hunted(Flaw::Deaf(1), 5);
    let violation = &hunted.findings[&Property::Unavailable].violation;
    assert!(violation.summary.contains("n2 did not serve again"), "{}", violation.summary);
    assert!(violation.explanation.iter().any(|line| line.starts_with("n2: ")), "{violation:?}");
}

#[test]
fn a_harness_that_fails_is_no_finding() {
    let hunted = hunted(Flaw::Harness, 1_000);
    assert!(hunted.findings.is_empty(), "{:?}", hunted.findings.keys());
    let (_, said) = hunted.broken.expect("it is known");
    assert_eq!(said, "the harness is out of order");
    assert!(hunted.runs < 1_000, "and the hunt ended");
}
