//! The bundled cluster in the simulated world: what carries out a [`Case`], whatever its mode.

use std::process::ExitCode;

use duress_checkers::Judge;
use duress_history::{Time, jsonl};
use duress_hunt::{Case, Selected, Simulator, Step, What};
use duress_kv::api;
use duress_kv::config::Config;
use duress_kv::paxos::Paxos;
use duress_kv::primary_backup::PrimaryBackup;
use duress_kv::quorum::Quorum;
use duress_machine::{Machine, NodeId};
use duress_scenario::Scenario;
use duress_sim::{Ended, Fleet, Happening, SimRun, Typed, World};
use duress_workloads::Generator;
use smol_str::ToSmolStr;

use crate::args::RunArgs;
use crate::exit::{self, Failure};
use crate::rundir::RunDir;
use crate::service::Clients;
use crate::{assemble, judge, options};

/// Runs cases of any mode: one world, and a fleet of each mode that was asked for. They are kept, and
/// their memory with them.
#[derive(Default)]
pub(crate) struct Bundle {
    world: World,
    paxos: Option<Typed<Paxos, Clients>>,
    primary_backup: Option<Typed<PrimaryBackup, Clients>>,
    quorum: Option<Typed<Quorum, Clients>>,
}

/// A simulator for the bundled cluster.
pub(crate) fn simulator() -> Box<dyn Simulator> {
    Box::new(Bundle::default())
}

type Watcher<'a> = Option<&'a mut dyn FnMut(Step)>;

impl Bundle {
    fn carry_out(&mut self, case: &Case, generator: &mut dyn Generator, watch: Watcher<'_>) -> SimRun {
        let config = assemble::config(&case.scenario, case.seed().derive("target"));
        let facts = case.scenario.target.facts();
        let policy = assemble::policy(&case.scenario);
        let clients = Clients { policy, sticky: facts.sticky, has_log: facts.has_log };
        let plan = case.plan(clients.policy.timeout);
        let fleet: &mut dyn Fleet = match config {
            Config::Paxos(config) => configured(&mut self.paxos, config, clients),
            Config::PrimaryBackup(config) => configured(&mut self.primary_backup, config, clients),
            Config::Quorum(config) => configured(&mut self.quorum, config, clients),
        };
        match watch {
            None => self.world.run(fleet, &plan, generator),
            Some(watch) => {
                let mut watcher = |at: Time, what: Happening<'_>| watch(step(at, what));
                self.world.run_watched(fleet, &plan, generator, &mut watcher)
            }
        }
    }
}

/// A fleet with this configuration, in the memory of the last one if there is one.
fn configured<M>(fleet: &mut Option<Typed<M, Clients>>, config: M::Config, clients: Clients) -> &mut Typed<M, Clients>
where
    M: Machine<Request = api::Request, Response = api::Response>,
{
    match fleet {
        Some(fleet) => {
            fleet.configure(config, clients);
            fleet
        }
        None => fleet.insert(Typed::new(config, clients)),
    }
}

/// The operations of a case.
fn operations(case: &Case) -> Selected<'_, Box<dyn Generator>> {
    let generator = assemble::generator(&case.scenario, case.seed());
    Selected::new(generator, &case.operations, case.scenario.workload.concurrency().into())
}

/// Carries out a case with other operations than its own.
pub(crate) fn scripted(case: &Case, generator: &mut dyn Generator) -> SimRun {
    Bundle::default().carry_out(case, generator, None)
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

impl Simulator for Bundle {
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
