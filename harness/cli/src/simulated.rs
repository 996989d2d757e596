//! Targets in the simulated world: what carries out a [`Case`], whatever it is of.

use std::collections::BTreeMap;
use std::process::ExitCode;

use duress_checkers::Judge;
use duress_history::{Time, jsonl};
use duress_hunt::{Case, Selected, Simulator, Step, What};
use duress_kit::{Kit, Simulated};
use duress_machine::NodeId;
use duress_scenario::Scenario;
use duress_sim::{Clients, Ended, Happening, SimRun, World};
use duress_workloads::Generator;
use smol_str::ToSmolStr;

use crate::args::RunArgs;
use crate::exit::{self, Failure};
use crate::rundir::RunDir;
use crate::{assemble, judge, options, plugs};

/// Runs cases of any target whose nodes are machines: one world, and the machines of each target that
/// was asked for. They are kept, and their memory with them.
#[derive(Default)]
pub(crate) struct Simulations {
    world: World,
    machines: BTreeMap<&'static str, Box<dyn Simulated>>,
}

/// A simulator for every target that can be simulated.
pub(crate) fn simulator() -> Box<dyn Simulator> {
    Box::new(Simulations::default())
}

type Watcher<'a> = Option<&'a mut dyn FnMut(Step)>;

impl Simulations {
    fn carry_out(&mut self, case: &Case, generator: &mut dyn Generator, watch: Watcher<'_>) -> SimRun {
        let target = &case.scenario.target;
        let facts = target.facts();
        let clients =
            Clients { policy: assemble::policy(&case.scenario), sticky: facts.sticky, has_log: facts.has_log };
        let machines = self.machines.entry(target.kind()).or_insert_with(|| {
            // Whoever read the scenario knows no other targets, and made sure that this one can be
            // simulated.
            let kit = plugs::kit(target.kind()).and_then(Kit::machines).expect("a target that can be simulated");
            kit.simulated()
        });
        let fleet = machines.fleet(target.options(), case.seed().derive("target").0, clients);
        let plan = case.plan(clients.policy.timeout);
        match watch {
            None => self.world.run(fleet, &plan, generator),
            Some(watch) => {
                let mut watcher = |at: Time, what: Happening<'_>| watch(step(at, what));
                self.world.run_watched(fleet, &plan, generator, &mut watcher)
            }
        }
    }
}

/// The operations of a case.
fn operations(case: &Case) -> Selected<'_, Box<dyn Generator>> {
    let generator = assemble::generator(&case.scenario, case.seed());
    Selected::new(generator, &case.operations, case.scenario.workload.concurrency().into())
}

/// Carries out a case with other operations than its own.
pub(crate) fn scripted(case: &Case, generator: &mut dyn Generator) -> SimRun {
    Simulations::default().carry_out(case, generator, None)
}

/// The longest message that is shown, in characters.
const SHOWN: usize = 160;

fn shown(message: &dyn std::fmt::Debug) -> String {
    format!("{message:?}").chars().take(SHOWN).collect()
}

fn step(at: Time, what: Happening<'_>) -> Step {
    let name = |node: NodeId| node.to_smolstr();
    let local = |node: NodeId, what: String| What::At { node: name(node), what };
    let what = match what {
        Happening::Started { node, records } => local(node, format!("starts with {records} records on its disk")),
        Happening::Sent { from, to, message } => What::Sent { from: name(from), to: name(to), message: shown(message) },
        Happening::Received { from, to, message } => {
            What::Received { from: name(from), to: name(to), message: shown(message) }
        }
        Happening::Lost { from, to, messages } => What::Lost { from: name(from), to: name(to), messages },
        Happening::Timer { node, timer } => local(node, format!("timer {timer:?}")),
        Happening::Synced { node, through } => local(node, format!("has synced up to {through}")),
        Happening::Request { node, request } => local(node, format!("is asked {}", shown(request))),
        Happening::Answer { node, response } => local(node, format!("answers {}", shown(response))),
        Happening::Down { node } => local(node, "is down".into()),
    };
    Step { at, what }
}

impl Simulator for Simulations {
    fn simulate(&mut self, case: &Case) -> SimRun {
        self.carry_out(case, &mut operations(case), None)
    }

    fn traced(&mut self, case: &Case, watch: &mut dyn FnMut(Step)) -> SimRun {
        self.carry_out(case, &mut operations(case), Some(watch))
    }

    fn recycle(&mut self, run: SimRun) {
        self.world.recycle(run);
    }

    fn checkers(&self, scenario: &Scenario) -> Vec<Box<dyn Judge>> {
        assemble::checkers(scenario)
    }
}

/// `duress run --world sim`: one simulated run of the scenario, kept and judged like a real one.
pub(crate) fn run(args: &RunArgs) -> Result<ExitCode, Failure> {
    if args.stop_on_violation {
        return Err(Failure::Usage("--stop-on-violation is for real runs: a simulated one is over in no time".into()));
    }
    if args.pcap {
        return Err(Failure::Usage(
            "--pcap is for real runs: a simulated one has no frames; see --trace of replay".into(),
        ));
    }
    let asked = &args.asked;
    let scenario = options::scenario(asked, args.time.as_deref())?;
    let directory = RunDir::create(&asked.out, &scenario.name)
        .map_err(|e| Failure::infrastructure(&format!("can't make a run directory in {}", asked.out.display()), e))?;
    write(&directory.scenario(), scenario.to_yaml().as_bytes())?;
    if !asked.json {
        println!("{}", options::describe(&scenario));
        println!("simulated; kept in {}\n", directory.path().display());
    }
    let case = Case::of(&scenario);
    let run = simulator().simulate(&case);
    keep(&run, &directory)?;
    let judged = judge::judge(&directory, &scenario)?;
    judge::show(&judged, &directory, asked.json);
    if !asked.json {
        let simulated = run.stats.simulated.as_secs_f64();
        println!("simulated {simulated:.2} s in {} events; trace hash {:016x}", run.stats.events, run.trace_hash);
    }
    match &run.ended {
        Ended::Panicked { node: None, said } => Err(Failure::Infrastructure(format!("the simulator panicked: {said}"))),
        _ => Ok(exit::of(judged.results.verdict)),
    }
}

/// Writes a run's history into its directory.
pub(crate) fn keep(run: &SimRun, directory: &RunDir) -> Result<(), Failure> {
    let mut history = Vec::new();
    for event in &run.events {
        jsonl::write(event, &mut history).map_err(|e| Failure::infrastructure("can't write the history", e))?;
    }
    write(&directory.history(), &history)
}

/// Writes a file of a run directory.
pub(crate) fn write(path: &std::path::Path, bytes: &[u8]) -> Result<(), Failure> {
    std::fs::write(path, bytes).map_err(|e| Failure::infrastructure(&format!("can't write {}", path.display()), e))
}
